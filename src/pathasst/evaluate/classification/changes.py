"""Changes that a slide meets on its way: another stain, focus, compression, scanner. Knows pixels.

Every change takes and gives H×W×3 uint8 RGB, and does the same to the same picture.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pathasst.imaging.pictures import encode_jpeg, load

Change = Callable[[np.ndarray], np.ndarray]


def stain(haematoxylin: float, eosin: float) -> Change:
    """Both stains made stronger or weaker by these factors, in optical density (Ruifrok & Johnston)."""

    def change(image: np.ndarray) -> np.ndarray:
        from skimage.color import hed2rgb, rgb2hed

        parts = rgb2hed(image)
        parts[..., 0] *= haematoxylin
        parts[..., 1] *= eosin
        return np.clip(hed2rgb(parts) * 255 + 0.5, 0, 255).astype(np.uint8)

    return change


def blur(sigma: float) -> Change:
    """Out of focus: Gaussian, sigma in px of a picture whose shorter side has 224."""

    def change(image: np.ndarray) -> np.ndarray:
        import cv2

        return cv2.GaussianBlur(image, (0, 0), sigma * min(image.shape[:2]) / 224)

    return change


def jpeg(quality: int) -> Change:
    """Compressed and read again."""

    def change(image: np.ndarray) -> np.ndarray:
        return load(encode_jpeg(image, quality))

    return change


def scanner(gains: tuple[float, float, float], gamma: float, resolution: float) -> Change:
    """Another scanner: white balance by channel, tone curve, and detail lost by a coarser sampling (`resolution` < 1)."""

    def change(image: np.ndarray) -> np.ndarray:
        import cv2

        toned = 255 * (image / 255.0) ** gamma * np.array(gains)
        height, width = image.shape[:2]
        coarse = cv2.resize(
            toned, (max(1, round(width * resolution)), max(1, round(height * resolution))), interpolation=cv2.INTER_AREA
        )
        return np.clip(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR) + 0.5, 0, 255).astype(np.uint8)

    return change


CHANGES: dict[str, Change] = {
    "stain, pale": stain(0.7, 0.7),
    "stain, strong": stain(1.4, 1.4),
    "stain, more eosin": stain(0.8, 1.4),
    "blur, slight": blur(1.0),
    "blur, strong": blur(2.5),
    "JPEG, quality 40": jpeg(40),
    "JPEG, quality 15": jpeg(15),
    "scanner, warm": scanner((1.0, 0.95, 0.88), 0.85, 0.75),
    "scanner, cold": scanner((0.9, 0.95, 1.0), 1.2, 0.5),
}
"""Name → change, mild and marked."""
