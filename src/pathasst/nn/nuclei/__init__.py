"""Nuclei in H&E, each with its outline: a small decoder on EfficientNet-Lite0, and the nuclei gathered around predicted centres.

`settings` knows no torch; `maps` turns labels into what the network learns and its output back into labels.
"""
