"""The networks: backbones, classifier, detector, points, masks, diffusion, and their ONNX form. Knows no tool."""
