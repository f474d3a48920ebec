"""Random crops of labelled fields, and what another camera makes of a picture: for the trainings of cells and of nuclei."""

from __future__ import annotations

import cv2
import numpy as np


def random_matrix(shape: tuple[int, ...], size: int, zoom: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """A random zoom (log-uniform), slight stretch, quarter turns, flip and place, as a 2×3 affine.

    Zooming out stops where the crop would need more than the picture has: beyond its edge there are no labels.
    """
    height, width = shape[:2]
    least = max(zoom[0], size / min(height, width))
    scale = float(np.exp(rng.uniform(np.log(least), np.log(max(zoom[1], least)))))
    stretch = float(np.exp(rng.uniform(-0.08, 0.08))) if scale > least * 1.1 else 1.0
    sx, sy = scale * stretch, scale / stretch
    x0 = rng.uniform(0, max(width - size / sx, 0))
    y0 = rng.uniform(0, max(height - size / sy, 0))
    crop = np.array([[sx, 0, -sx * x0], [0, sy, -sy * y0], [0, 0, 1]])
    turn = np.eye(3)
    for _ in range(int(rng.integers(4))):
        turn = np.array([[0, -1, size], [1, 0, 0], [0, 0, 1]]) @ turn
    if rng.random() < 0.5:
        turn = np.array([[-1, 0, size], [0, 1, 0], [0, 0, 1]]) @ turn
    return (turn @ crop)[:2]  # type: ignore[no-any-return]


def centred(matrix: np.ndarray) -> np.ndarray:
    """A 2×3 affine of px edges as OpenCV takes it, which puts pixel centres at whole numbers."""
    shifted = matrix.copy()
    shifted[:, 2] += matrix[:, :2] @ np.array([0.5, 0.5]) - 0.5
    return shifted


def photograph(
    image: np.ndarray, rng: np.random.Generator, *, contrast: float, brightness: float, blurred: float, blur: float
) -> np.ndarray:
    """Random contrast (± share), brightness (± grey values), tint, blur (up to px, in a share of the pictures) and JPEG noise.

    H×W×3 float of about 0–255 → uint8.
    """
    image = (image - 127) * rng.uniform(1 - contrast, 1 + contrast) + 127 + rng.uniform(-brightness, brightness)
    image = np.clip(image + rng.uniform(-8, 8, 3), 0, 255).astype(np.uint8)
    if rng.random() < blurred:
        image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.3, blur)))
    if rng.random() < 0.3:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 95))]
        image = np.asarray(cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], cv2.IMREAD_COLOR))
    return image
