"""Standardised features and their principal directions, which heads, looks and spaces of pictures are fitted on."""

from __future__ import annotations

import numpy as np


def standardise(features: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean [d] and deviation [d] of float32 features [n, d], and these with mean 0 and deviation 1.

    A feature that hardly varies counts as one that varies by 1 % of its mean: nothing is divided by zero.
    """
    mean, spread = features.mean(0), features.std(0)
    deviation = np.maximum(spread, 0.01 * np.abs(mean) + 1e-3)
    return mean, deviation, (features - mean) / deviation


def principal(normal: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit directions [k, d] of standardised rows, and the variance along each, by the smaller of the two Gram matrices.

    k is `count`, or less where the rows vary in fewer directions (few rows, or copies among them).
    """
    few = len(normal) <= normal.shape[1]
    eigenvalues, vectors = np.linalg.eigh(normal @ normal.T if few else normal.T @ normal)
    eigenvalues, vectors = eigenvalues[::-1][:count], vectors[:, ::-1][:, :count]
    real = eigenvalues > 1e-6 * eigenvalues[0]
    eigenvalues, vectors = eigenvalues[real], vectors[:, real]
    directions = vectors.T @ normal / np.sqrt(eigenvalues)[:, None] if few else vectors.T
    return directions, eigenvalues / len(normal)
