"""DPA-P2PNet, a point detector of cells, written from the paper's description (Shui et al. 2023, arXiv 2303.02602).

One pixel convention everywhere: x, y in px of the input picture, the centre of the first pixel at (0.5, 0.5), as
`grid_sample(align_corners=False)` has it.
"""
