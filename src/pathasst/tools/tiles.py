"""Merging the points that were found in the overlapping tiles of a large picture. Knows no model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pathasst.tiles import Tile, plan

__all__ = ["Tile", "merge_points", "plan"]


def merge_points(
    found: Sequence[tuple[Tile, tuple[np.ndarray, np.ndarray, np.ndarray]]],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (P×2 px of the tile), classes and scores of each tile → of the whole picture.

    A point counts only in the tile whose core holds it: no cell twice, and none judged from a cut half. The cores' edges are
    half-open; the suppression of close points that follows removes the rare pair on both sides of one.
    """
    points, classes, scores = [np.empty((0, 2), np.float32)], [np.empty(0, np.int64)], [np.empty(0, np.float32)]
    for tile, (where, what, score) in found:
        placed = where + np.array([tile.x, tile.y], np.float32)
        x1, y1, x2, y2 = tile.core
        own = (placed[:, 0] >= x1) & (placed[:, 0] < x2) & (placed[:, 1] >= y1) & (placed[:, 1] < y2)
        points.append(placed[own].astype(np.float32))
        classes.append(what[own])
        scores.append(score[own])
    return np.concatenate(points), np.concatenate(classes), np.concatenate(scores)
