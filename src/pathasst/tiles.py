"""Overlapping tiles of a large picture. Knows no model; every room may use it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from pathasst.errors import BadSettings


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
