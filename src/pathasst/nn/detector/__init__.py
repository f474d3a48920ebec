"""Detection by boxes: settings, data, networks, training, measuring, inference. Knows no stain, no figure and no tool.

`infer.Detector` is what others use; `train.train` makes one from labelled pictures; `evaluate.evaluate` measures it.
"""
