"""Overlapping tiles of a large picture, and merging the points that were found in them. Knows no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pathasst.core.errors import BadSettings

STEP = 32
"""px that the sides of tiles are multiples of, where they are smaller than asked for: networks pad to their greatest stride."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A window of a picture, and the part of it that it answers for (its core): cores tile the picture without overlap."""

    x: int
    y: int
    width: int
    height: int
    core: tuple[int, int, int, int]  # x1 y1 x2 y2 in px of the whole picture; x2, y2 exclusive

    @property
    def window(self) -> tuple[slice, slice]:
        """For indexing an H×W×… array."""
        return slice(self.y, self.y + self.height), slice(self.x, self.x + self.width)


def _spans(length: int, size: int, overlap: int) -> list[tuple[int, int, int, int]]:
    """(start, stop, core start, core stop) along one axis; neighbours meet in the middle of their overlap."""
    if length <= size:
        return [(0, length, 0, length)]
    count = -(-(length - overlap) // (size - overlap))
    # No larger than it takes: of 1,280 px two tiles of 1,024 would read most of the picture twice.
    size = min(size, -(-(length + (count - 1) * overlap) // count // STEP) * STEP)
    starts = [round(i * (length - size) / (count - 1)) for i in range(count)]
    edges = [0, *((a + size + b) // 2 for a, b in pairwise(starts)), length]
    return [(s, s + size, edges[i], edges[i + 1]) for i, s in enumerate(starts)]


def plan(height: int, width: int, size: int = 1024, overlap: int = 96) -> list[Tile]:
    """Tiles of at most `size` px that cover a height×width picture and overlap by at least `overlap` px.

    Raises BadSettings when the overlap leaves no step.
    """
    if not 0 <= overlap < size:
        raise BadSettings(f"the overlap ({overlap} px) must be smaller than the tile ({size} px)")
    rows, columns = _spans(height, size, overlap), _spans(width, size, overlap)
    return [Tile(x1, y1, x2 - x1, y2 - y1, (cx1, cy1, cx2, cy2)) for y1, y2, cy1, cy2 in rows for x1, x2, cx1, cx2 in columns]


def merge_points(
    tile_points: Sequence[tuple[Tile, tuple[np.ndarray, np.ndarray, np.ndarray]]],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (P×2 px of the tile), classes and scores of each tile → of the whole picture.

    A point counts only in the tile whose core holds it: no cell twice, and none judged from a cut half. The cores' edges are
    half-open; the suppression of close points that follows removes the rare pair on both sides of one.
    """
    points, classes, scores = [np.empty((0, 2), np.float32)], [np.empty(0, np.int64)], [np.empty(0, np.float32)]
    for tile, (where, what, score) in tile_points:
        placed = where + np.array([tile.x, tile.y], np.float32)
        x1, y1, x2, y2 = tile.core
        own = (placed[:, 0] >= x1) & (placed[:, 0] < x2) & (placed[:, 1] >= y1) & (placed[:, 1] < y2)
        points.append(placed[own].astype(np.float32))
        classes.append(what[own])
        scores.append(score[own])
    return np.concatenate(points), np.concatenate(classes), np.concatenate(scores)
