"""Are drawn cells like real ones, and no copies? For tools_generate.py; knows arrays, not how the cells were drawn."""

from __future__ import annotations

import numpy as np

from pathasst.nn.classifier.augment import squash

DIMENSIONS = 64
"""Features are reduced to so many principal components of real cells: a covariance of more needs thousands of cells."""


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Fréchet distance of two sets of features [n, d] and [m, d] taken as normal distributions (Heusel et al. 2017)."""
    from scipy.linalg import sqrtm

    ca, cb = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.real(sqrtm(ca @ cb))
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(ca + cb - 2 * root))


class Space:
    """Principal components of some cells' features; `space(features)` projects others into it, each component scaled alike."""

    def __init__(self, features: np.ndarray, dimensions: int = DIMENSIONS) -> None:
        self.mean = features.mean(0)
        _, values, rows = np.linalg.svd(features - self.mean, full_matrices=False)
        self.rows = rows[: min(dimensions, len(features) - 1)]
        self.scale = float(values[: len(self.rows)].std() / np.sqrt(len(features)) + 1e-9)

    def __call__(self, features: np.ndarray) -> np.ndarray:
        return (features - self.mean) @ self.rows.T / self.scale  # type: ignore[no-any-return]


def nearest(pictures: np.ndarray, known: np.ndarray, side: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Distance of each picture [n, H, W, 3] to the nearest known one [m, …] under all eight turns and mirrorings, and its index.

    Root mean square difference of `side`×`side` px thumbnails, each freed of its mean colour and scaled to unit contrast.
    """
    ours = _thumbnails(pictures, side)
    best, index = np.full(len(ours), np.inf), np.zeros(len(ours), int)
    small = np.stack([squash(p, side) for p in known])
    for turns in range(4):
        for mirrored in (False, True):
            view = np.rot90(small, turns, (1, 2))
            theirs = _thumbnails(view[:, :, ::-1] if mirrored else view, side)
            distance = np.sqrt(np.maximum(2 - 2 * ours @ theirs.T, 0))
            closer = distance.min(1) < best
            index[closer] = distance.argmin(1)[closer]
            best = np.minimum(best, distance.min(1))
    return best, index


def _thumbnails(pictures: np.ndarray, side: int) -> np.ndarray:
    """[n, side·side·3] float32 unit vectors."""
    small = np.stack([squash(np.ascontiguousarray(p), side) for p in pictures]).astype(np.float32)
    flat = (small - small.mean((1, 2), keepdims=True)).reshape(len(small), -1)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
