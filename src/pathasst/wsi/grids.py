"""Counts on a grid over the slide: density map and hot spots. Knows points and labels, no tool.

Memory follows the slide's area, not its cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MAX_BINS = 4_000_000


class CountGrid:
    """Objects by label in square bins of `side` px of the finest level."""

    def __init__(self, size: tuple[int, int], side: float) -> None:
        self.side = max(side, (size[0] * size[1] / MAX_BINS) ** 0.5)
        self.shape = int(size[1] / self.side) + 1, int(size[0] / self.side) + 1
        self.counts: dict[str, np.ndarray] = {}  # label → H×W int32

    def add(self, label: str, x: float, y: float) -> None:
        grid = self.counts.get(label)
        if grid is None:
            grid = self.counts[label] = np.zeros(self.shape, np.int32)
        row, column = min(int(y / self.side), self.shape[0] - 1), min(int(x / self.side), self.shape[1] - 1)
        grid[max(row, 0), max(column, 0)] += 1

    def total(self, labels: Sequence[str] | None = None) -> np.ndarray:
        """H×W int32: objects of these labels, of all without."""
        total = np.zeros(self.shape, np.int32)
        for name, counts in self.counts.items():
            if labels is None or name in labels:
                total += counts
        return total


@dataclass(frozen=True, slots=True)
class Spot:
    """A hot spot: a disc around x, y of `radius`, px of the finest level."""

    x: float
    y: float
    radius: float


def hot_spots(grid: CountGrid, labels: Sequence[str], radius: float, count: int, least: int = 50) -> list[Spot]:
    """The discs of `radius` px with the most objects of `labels`, best first; no two overlap.

    A disc with fewer than `least` objects of any label is none: an index of few cells is chance.
    """
    from scipy.signal import fftconvolve

    reach = int(np.ceil(radius / grid.side))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = ((x**2 + y**2) * grid.side**2 <= radius**2).astype(np.float32)
    positive = np.round(fftconvolve(grid.total(labels).astype(np.float32), disc, "same"))
    every = np.round(fftconvolve(grid.total().astype(np.float32), disc, "same"))
    positive[every < least] = -1
    spots: list[Spot] = []
    rows, columns = np.mgrid[: grid.shape[0], : grid.shape[1]]
    while len(spots) < count:
        row, column = np.unravel_index(int(positive.argmax()), positive.shape)
        if positive[row, column] <= 0:
            break
        spots.append(Spot((column + 0.5) * grid.side, (row + 0.5) * grid.side, radius))
        positive[(rows - row) ** 2 + (columns - column) ** 2 < (2 * radius / grid.side) ** 2] = -1
    return spots
