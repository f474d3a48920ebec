"""What a tool reports of a tile, in px of the slide; and the same object seen by two tiles. Knows annotations, no tool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pathasst.core.records import Annotation
from pathasst.imaging.boxes import share_of_smaller
from pathasst.imaging.geojson import box_geometry, feature, ring_of
from pathasst.imaging.outlines import outlines_of_mark
from pathasst.imaging.slides.grid import SlideTile


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideObject:
    """One object of a slide, in px of its finest level. `rings`: closed outlines, x y x y …, the first the outer one."""

    label: str
    score: float
    x: float  # its middle
    y: float
    box: list[float] = field(default_factory=list)  # x1 y1 x2 y2; empty for a point
    rings: list[list[float]] = field(default_factory=list)

    def geojson(self, number: int) -> dict[str, Any]:
        """The object as a GeoJSON feature of QuPath; `number` is its place among the slide's objects."""
        geometry: dict[str, Any]
        if self.rings:
            rings = [ring_of(np.reshape(ring, (-1, 2)).tolist()) for ring in self.rings]
            geometry = {"type": "Polygon", "coordinates": rings}
        elif self.box:
            geometry = box_geometry(self.box[0], self.box[1], self.box[2], self.box[3])
        else:
            geometry = {"type": "Point", "coordinates": [self.x, self.y]}
        return feature(geometry, f"{number} {self.label} {self.x} {self.y}", self.label, {"score": self.score})


@dataclass(frozen=True, slots=True, kw_only=True)
class TileResult:
    """What came of one tile: a row of the stage. `core` and `window` as in SlideTile."""

    number: int
    core: list[float]
    window: list[float]
    tissue: float
    objects: list[SlideObject] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def place(annotations: Sequence[Annotation], tile: SlideTile, shape: tuple[int, int]) -> list[SlideObject]:
    """The annotations of a tile's picture (height, width) whose middles lie in its core, in px of the slide."""
    x1, y1, x2, y2 = tile.window
    factor = np.array([(x2 - x1) / shape[1], (y2 - y1) / shape[0]])
    placed = []
    for mark in annotations:
        corners = np.array(mark.coordinates, float).reshape(-1, 2) * factor + [x1, y1]
        x, y = corners.mean(0)
        if not tile.owns(np.array([[x, y]]))[0]:
            continue
        rings = []
        if mark.kind == "mask" and mark.rle:
            largest = max(outlines_of_mark(mark, shape).geoms, key=lambda p: p.area, default=None)
            if largest is None:
                continue
            edges = [np.array(ring.coords)[:, :2] for ring in (largest.exterior, *largest.interiors)]
            rings = [(edge * factor + [x1, y1]).round(2).ravel().tolist() for edge in edges]
        placed.append(
            SlideObject(
                label=mark.label,
                score=mark.score,
                x=round(float(x), 2),
                y=round(float(y), 2),
                box=[] if mark.kind == "point" else corners.round(2).ravel().tolist(),
                rings=rings,
            )
        )
    return placed


class Seams:
    """Drops an object that an earlier tile has already: a cell on the edge of two cores can be seen on either side of it.

    Tiles must come in their order, row by row. Only objects near an edge are remembered, until the next row is done.
    """

    def __init__(self, apart: float) -> None:
        self.apart = apart  # px of the finest level within which two points are one object
        self._earlier: list[tuple[list[float], list[SlideObject]]] = []  # core of a tile, its objects near an edge

    def new(self, tile: TileResult) -> list[SlideObject]:
        """The tile's objects that no earlier tile has."""
        x1, y1, x2, y2 = tile.core
        self._earlier = [(core, some) for core, some in self._earlier if core[3] >= y1]
        near = [o for core, some in self._earlier if core[0] <= x2 and core[2] >= x1 for o in some]
        fresh, edge = [], []
        for one in tile.objects:
            extent = max(one.box[2] - one.box[0], one.box[3] - one.box[1]) if one.box else self.apart
            if min(one.x - x1, x2 - one.x, one.y - y1, y2 - one.y) >= extent:
                fresh.append(one)
            elif not any(self._same(one, other) for other in near):
                fresh.append(one)
                edge.append(one)
        self._earlier.append((tile.core, edge))
        return fresh

    def _same(self, one: SlideObject, other: SlideObject) -> bool:
        if one.box and other.box:
            # over the smaller one: a box that a tile's edge cuts off is part of the whole one
            return share_of_smaller(one.box, other.box) > 0.5
        return not (one.box or other.box) and (one.x - other.x) ** 2 + (one.y - other.y) ** 2 < self.apart**2
