"""A window of a picture, its edges anywhere between px, at another size. Knows arrays, no slide."""

from __future__ import annotations

import math

import numpy as np

LINEAR = 1.5
"""Up to so many px a px of the result, interpolating between four px does as well as averaging: 52 dB beside Pillow's HAMMING."""
WIDTH = 0.38
"""Of the Gaussian before sampling, times √(factor² − 1): as near as can be to Pillow's HAMMING in what stays and what goes."""
FAR = 4.0
"""From this factor on, px are first averaged in blocks, as the Gaussian would be wide and slow."""


def block_of(factor: float) -> int:
    """px a side that are averaged before anything else; a window's px must begin at a multiple of it, so that blocks agree."""
    return int(factor // 2) if factor >= FAR else 1


def margin_of(factor: float) -> int:
    """px around a window that its edges are made from."""
    return 2 if factor <= LINEAR else math.ceil(3 * factor)


def resample(pixels: np.ndarray, box: tuple[float, float, float, float], size: tuple[int, int]) -> np.ndarray:
    """The window `box` (x1 y1 x2 y2 in px of H×W×3 uint8 `pixels`) at `size` (width, height), without aliasing.

    What lies beyond the picture is as its edge. A px of the result lies where it should to 1/32 px.
    """
    import cv2

    x1, y1, x2, y2 = box
    fx, fy = (x2 - x1) / size[0], (y2 - y1) / size[1]
    block = block_of(min(fx, fy))
    if block > 1:
        height, width = (-(-n // block) * block for n in pixels.shape[:2])
        rest = height - pixels.shape[0], width - pixels.shape[1]
        if any(rest):
            pixels = cv2.copyMakeBorder(pixels, 0, rest[0], 0, rest[1], cv2.BORDER_REPLICATE)
        pixels = cv2.resize(pixels, (width // block, height // block), interpolation=cv2.INTER_AREA)
        x1, y1, x2, y2, fx, fy = (v / block for v in (x1, y1, x2, y2, fx, fy))
    if max(fx, fy) > LINEAR:
        widths = [WIDTH * math.sqrt(max(f * f - 1, 0.01)) for f in (fx, fy)]
        kernel = 3 if max(fx, fy) < 2 else 2 * math.ceil(2.5 * max(widths)) + 1
        pixels = cv2.GaussianBlur(pixels, (kernel, kernel), sigmaX=widths[0], sigmaY=widths[1], borderType=cv2.BORDER_REPLICATE)
    corners = [round(v) for v in (x1, y1, x2, y2)]
    if min(fx, fy) >= 1 and max(abs(a - b) for a, b in zip(corners, (x1, y1, x2, y2), strict=True)) < 1e-3:
        part = pixels[corners[1] : corners[3], corners[0] : corners[2]]
        if part.shape[:2] == (corners[3] - corners[1], corners[2] - corners[0]):
            return np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_LINEAR))
    # middles of px lie at +0.5: column c of the result shows x1 + (c + 0.5) · fx − 0.5
    matrix = np.array([[fx, 0, x1 + fx / 2 - 0.5], [0, fy, y1 + fy / 2 - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(pixels, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE))
