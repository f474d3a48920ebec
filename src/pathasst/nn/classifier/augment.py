"""Random views of a picture for training: turned, moved, stained otherwise. Knows pixels alone."""

from __future__ import annotations

import cv2
import numpy as np

from pathasst.nn.classifier.settings import ClassifierTraining


def squash(picture: np.ndarray, size: int) -> np.ndarray:
    """H×W×3 uint8 → size×size×3, antialiased when it shrinks."""
    shrink = min(picture.shape[:2]) > size
    return np.asarray(cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR))


def vary(picture: np.ndarray, settings: ClassifierTraining, rng: np.random.Generator) -> np.ndarray:
    """A random view of H×W×3 uint8 RGB as size×size×3 uint8."""
    placed = _place(picture, settings, rng)
    coloured = recolour(placed, settings.colour, rng) if settings.colour else placed
    if rng.random() < 0.3:
        coloured = cv2.GaussianBlur(coloured, (0, 0), float(rng.uniform(0.3, 1.2)))
    if rng.random() < 0.2:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 95))]
        coloured = np.asarray(cv2.imdecode(cv2.imencode(".jpg", coloured, quality)[1], cv2.IMREAD_COLOR))
    return np.asarray(coloured)


def _place(picture: np.ndarray, settings: ClassifierTraining, rng: np.random.Generator) -> np.ndarray:
    size, zoom = settings.size, settings.zoom
    angle = float(rng.uniform(0, 2 * np.pi)) if settings.turns else float(rng.uniform(-0.1, 0.1))
    scale = np.exp(rng.uniform(-zoom, zoom, 1) + rng.uniform(-zoom, zoom, 2) / 3)
    flip = -1.0 if rng.random() < 0.5 else 1.0
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    height, width = picture.shape[:2]
    matrix = turn @ np.diag(scale * [flip * size / width, size / height])
    centre = size / 2 + rng.uniform(-zoom, zoom, 2) * size / 2
    # Pixel centres: OpenCV has them at whole numbers, half a px from ours.
    shift = centre - 0.5 - matrix @ (np.array([width, height]) / 2 - 0.5)
    return cv2.warpAffine(
        picture, np.hstack([matrix, shift[:, None]]), (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )


def recolour(picture: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Random stain strength and hue (in optical density), brightness and contrast of H×W×3 uint8."""
    density = -np.log((picture.astype(np.float32) + 1) / 256)
    mix = np.eye(3) * np.exp(rng.uniform(-1.5, 1.5) * strength) + rng.uniform(-0.5, 0.5, (3, 3)) * strength
    density = density @ mix.astype(np.float32) + rng.uniform(-0.3, 0.3, 3).astype(np.float32) * strength
    light = 256 * np.exp(-density) - 1
    light = (light - 128) * float(np.exp(rng.uniform(-1, 1) * strength)) + 128 + rng.uniform(-60, 60) * strength
    return np.clip(light, 0, 255).astype(np.uint8)  # type: ignore[no-any-return]
