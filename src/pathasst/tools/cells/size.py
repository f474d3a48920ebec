"""The size of nuclei in a picture of unknown scale, and the factor that brings it to the detector's. Knows blobs, not cells.

A detector trained at one magnification misses cells at another. Where nobody states the scale, it is read from the picture: blue
blobs are looked for at a range of sizes (scale-normalised Laplacian of Gaussian, Lindeberg 1998), and the size that carries
half of the found area is the picture's. It is an estimate: the result states the factor that was used.
"""

from __future__ import annotations

import numpy as np

from pathasst.imaging.stains import HAEMATOXYLIN, unmix

NUCLEUS = 12.0
"""Radius in px that this estimate gives for typical nuclei at the scale the detector was trained at (fields of 40×)."""
WINDOW = 640  # px; the middle of larger pictures is enough
SIGMAS = 2.0 * 1.2 ** np.arange(13)
LEAST = 0.06  # normalised response from which a blob counts


def nuclear_radius(image: np.ndarray) -> float | None:
    """Typical radius of blue nuclei in px of an H×W×3 uint8 RGB picture; None with fewer than five blobs."""
    import cv2

    height, width = image.shape[:2]
    step = 2 if min(height, width) >= 2 * WINDOW else 1
    half = WINDOW * step // 2
    top, left = max(height // 2 - half, 0), max(width // 2 - half, 0)
    middle = image[top : top + 2 * half, left : left + 2 * half]
    if step > 1:
        middle = cv2.resize(middle, None, fx=1 / step, fy=1 / step, interpolation=cv2.INTER_AREA)
    # Strong stain is cut off, or a few black nuclei would outvote the many pale ones.
    blue = np.minimum(unmix(middle)[..., HAEMATOXYLIN], 0.6)
    radius = _dominant(blue)
    return None if radius is None else radius * step


def _dominant(stain: np.ndarray) -> float | None:
    import cv2

    responses = [-(s**2) * cv2.Laplacian(cv2.GaussianBlur(stain, (0, 0), float(s)), cv2.CV_32F) for s in SIGMAS]
    peaks = [cv2.dilate(r, np.ones((9, 9), np.uint8)) for r in responses]
    sizes, weights = [], []
    for i in range(1, len(SIGMAS) - 1):
        highest = np.maximum(np.maximum(peaks[i - 1], peaks[i]), peaks[i + 1])
        responses_ = responses[i][(responses[i] >= highest) & (responses[i] > LEAST)]
        sizes += [SIGMAS[i]] * len(responses_)
        weights += (responses_ * SIGMAS[i] ** 2).tolist()  # by area: fine grain has many more maxima than there are nuclei
    if len(sizes) < 5:
        return None
    order = np.argsort(sizes)
    share = np.cumsum(np.array(weights)[order])
    # A disc of radius r answers most strongly at σ = r/√2.
    return float(np.array(sizes)[order][np.searchsorted(share, share[-1] / 2)] * np.sqrt(2))


def estimate_scale(image: np.ndarray) -> float:
    """The factor by which to resize the picture for the detector: 1 when nothing can be told, else between 0.4 and 3."""
    radius = nuclear_radius(image)
    return 1.0 if radius is None else float(np.clip(NUCLEUS / radius, 0.4, 3.0))
