"""Numbered nuclei ↔ the maps that the network learns: foreground, centre, and the way to the centre. Knows arrays alone.

A pixel of a nucleus points to its centre, and pixels that point to the same peak of the centre map are one nucleus
(Panoptic-DeepLab, Cheng et al. 2020). Touching nuclei point apart, so that no edge need be seen between them.
"""

from __future__ import annotations

import numpy as np

STEP = 8.0
"""px of the ways in one unit of their maps."""
SPREAD = 0.4
"""Width of a centre's peak in radii of its nucleus."""
PEAK = 7
"""px a side of the window in which a peak is the highest."""
SMOOTH = 1.5
"""px: standard deviation that the centre map is smoothed by first, or a nucleus of uneven texture has several peaks."""


def targets(labels: np.ndarray) -> np.ndarray:
    """4×H×W float32 of H×W numbered nuclei: foreground 0/1, centre 0–1, and the way to the centre in x and y in units of STEP.

    A nucleus that the picture cuts has the centre of its visible part.
    """
    flat = labels.ravel()
    area = np.maximum(np.bincount(flat), 1)
    ys, xs = np.indices(labels.shape, np.float32)
    to_x = (np.bincount(flat, xs.ravel()) / area)[labels] - xs
    to_y = (np.bincount(flat, ys.ravel()) / area)[labels] - ys
    width = SPREAD * np.sqrt(area / np.pi)
    inside = labels > 0
    centre = np.exp(-(to_x**2 + to_y**2) / (2 * width[labels] ** 2))
    return np.stack([inside, centre * inside, to_x * inside / STEP, to_y * inside / STEP]).astype(np.float32)


def gather(maps: np.ndarray, min_foreground: float, min_centre: float, min_area: float) -> tuple[np.ndarray, np.ndarray]:
    """Nuclei of 4×H×W maps (as `targets`, the first two as probabilities): H×W int32 numbered from 1, and the score of each.

    A score is the mean foreground probability of a nucleus. `min_area` in px. A nucleus is in one piece and has no holes.
    """
    from scipy.ndimage import gaussian_filter, maximum_filter
    from scipy.spatial import cKDTree

    foreground, centre = maps[0], gaussian_filter(maps[1], SMOOTH)
    mask = foreground >= min_foreground
    peaks = (centre == maximum_filter(centre, PEAK)) & (centre >= min_centre) & mask
    labels = np.zeros(mask.shape, np.int32)
    if not peaks.any():
        return labels, np.empty(0, np.float32)
    peak_y, peak_x = np.nonzero(peaks)
    y, x = np.nonzero(mask)
    ends = np.stack([x + STEP * maps[2][mask], y + STEP * maps[3][mask]], -1)
    labels[mask] = cKDTree(np.stack([peak_x, peak_y], -1)).query(ends)[1] + 1
    return _tidied(labels, foreground, min_area)


def _tidied(labels: np.ndarray, foreground: np.ndarray, min_area: float) -> tuple[np.ndarray, np.ndarray]:
    """The largest piece of each nucleus without holes, renumbered; those below `min_area` px go."""
    import cv2
    from scipy.ndimage import find_objects

    tidy, scores = np.zeros_like(labels), []
    for number, window in enumerate(find_objects(labels), start=1):
        if window is None:
            continue
        part = (labels[window] == number).astype(np.uint8)
        contours, _ = cv2.findContours(part, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        filled = np.zeros_like(part)
        cv2.drawContours(filled, [max(contours, key=len)], -1, 1, -1)
        pixels = (filled > 0) & ((labels[window] == number) | (labels[window] == 0))
        if pixels.sum() < max(min_area, 1):
            continue
        scores.append(float(foreground[window][pixels].mean()))
        tidy[window][pixels] = len(scores)
    return tidy, np.array(scores, np.float32)
