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
    """Unit directions [count, d] of standardised rows, and the variance along each, by the smaller of the two Gram matrices."""
    count = min(count, len(normal) - 1)
    if len(normal) > normal.shape[1]:
        eigenvalues, directions = np.linalg.eigh(normal.T @ normal)
        return directions[:, ::-1][:, :count].T, eigenvalues[::-1][:count] / len(normal)
    eigenvalues, left = np.linalg.eigh(normal @ normal.T)
    eigenvalues, left = eigenvalues[::-1][:count], left[:, ::-1][:, :count]
    return left.T @ normal / np.sqrt(eigenvalues)[:, None], eigenvalues / len(normal)
