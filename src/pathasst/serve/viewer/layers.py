"""What a run found, drawn as tiles over the slide: cells by class, density, tissue, hot spots. Fast with millions of cells."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pathasst.core.errors import BadDataset, BadInput
from pathasst.imaging.drawing import colours_of, rgb
from pathasst.wsi.run import BIN_UM, TISSUE, SlideRun
from pathasst.wsi.scores import POSITIVE, area_score, area_words
from pathasst.wsi.tables import PARQUET

LAYERS = ("cells", "density", "tissue", "spots")
DISC_UM = 3.0
"""Radius of a cell's mark where there is room."""


class RunLayers:
    """The layers of one finished run; `stamp` changes when the run does. Raises BadDataset when it is none."""

    def __init__(self, folder: Path, stamp: int = 0) -> None:
        self.run, self.stamp = SlideRun(folder), stamp
        summary = self.run.summary
        self.um_per_px = float(summary["um_per_px"])
        self.size = int(summary["size_px"][0]), int(summary["size_px"][1])
        self.tool = str(summary["tool"])

    def info(self) -> dict[str, Any]:
        """What the page shows of the run."""
        colours, summary = colours_of(self._labels), self.run.summary
        counts = zip(self._labels, self._counts.tolist(), strict=True)
        return {
            "name": self.run.folder.name,
            "stamp": self.stamp,
            "tool": self.tool,
            "version": summary["version"],
            "sentences": summary["sentences"],
            "warnings": summary["warnings"],
            "notice": summary["notice"],
            "classes": [{"name": name, "colour": colours[name], "objects": n} for name, n in counts],
            "spots": summary["hot_spots"],
        }

    def draw(
        self, layer: str, region: tuple[float, float, float, float], shape: tuple[int, int], classes: frozenset[int] | None = None
    ) -> np.ndarray:
        """H×W×4 uint8, transparent where nothing is. `region`: x, y, width, height in px of the finest level."""
        canvas = np.zeros((*shape, 4), np.uint8)
        factor = shape[1] / region[2]
        {"cells": self._draw_cells, "density": self._draw_density, "tissue": self._draw_tissue, "spots": self._draw_spots}[layer](
            canvas, region, factor, classes
        )
        return canvas

    def inside(self, corners: np.ndarray) -> dict[str, Any]:
        """What lies inside of a polygon, float [n, 2] px of the finest level: `counts`, `mm2`, `percent` with interval, `words`.

        Raises BadInput for a polygon that has no area.
        """
        import shapely

        area = shapely.make_valid(shapely.Polygon(corners))
        if area.area == 0:
            raise BadInput("the outline has no area: it needs three corners that are not on one line.")
        x, y, which, names = self._cells
        low, high = corners.min(0), corners.max(0)
        first, end = np.searchsorted(y, [low[1], high[1]])
        near = first + np.flatnonzero((x[first:end] >= low[0]) & (x[first:end] <= high[0]))
        shapely.prepare(area)
        rows = near[shapely.contains_xy(area, x[near], y[near])]
        counts = np.bincount(which[rows], minlength=len(names)).tolist()
        values = area_score(self.tool, {name: n for name, n in zip(names, counts, strict=True) if n})
        values["mm2"] = round(area.area * self.um_per_px**2 * 1e-6, 4)
        return {**values, "words": area_words(self.tool, values)}

    @cached_property
    def _cells(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
        """x, y float32, class uint8, and the classes' names; sorted by y, so that a tile's rows are found by bisection."""
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(self.run.folder / PARQUET, columns=["x", "y", "label"])
        except OSError as error:
            raise BadDataset(f"{self.run.folder.name} holds no {PARQUET}: {error}") from error
        x, y = table["x"].to_numpy(), table["y"].to_numpy()
        labels = table["label"].combine_chunks().dictionary_encode()
        names = labels.dictionary.to_pylist()
        order = np.argsort(y, kind="stable")
        return x[order], y[order], labels.indices.to_numpy().astype(np.uint8)[order], names

    @property
    def _labels(self) -> list[str]:
        return self._cells[3]

    @property
    def _counts(self) -> np.ndarray:
        return np.bincount(self._cells[2], minlength=len(self._labels))

    @cached_property
    def _palette(self) -> np.ndarray:
        colours = colours_of(self._labels)
        return np.array([(*rgb(colours[n]), 255) for n in self._labels], np.uint8)

    def _draw_cells(self, canvas: np.ndarray, region: Any, factor: float, classes: frozenset[int] | None) -> None:
        import cv2

        x, y, which, _ = self._cells
        reach = max(DISC_UM / self.um_per_px, 2 / factor)
        first, end = np.searchsorted(y, [region[1] - reach, region[1] + region[3] + reach])
        inside = (x[first:end] >= region[0] - reach) & (x[first:end] <= region[0] + region[2] + reach)
        if classes is not None:
            inside &= np.isin(which[first:end], list(classes))
        indices = first + np.flatnonzero(inside)
        columns, rows = (x[indices] - region[0]) * factor, (y[indices] - region[1]) * factor
        radius = DISC_UM / self.um_per_px * factor
        colours = self._palette[which[indices]] if len(indices) else np.zeros((0, 4), np.uint8)
        if radius >= 2 and len(indices) < 20_000:
            for column, row, colour in zip(columns, rows, colours.tolist(), strict=True):
                middle = round(float(column) * 16), round(float(row) * 16)
                cv2.circle(canvas, middle, round(radius * 16), colour, max(round(radius / 6), 1), cv2.LINE_AA, 4)
            return
        size = 2 if radius >= 0.4 else 1
        for dx in range(size):
            for dy in range(size):
                c, r = columns.astype(int) + dx, rows.astype(int) + dy
                ok = (c >= 0) & (r >= 0) & (c < canvas.shape[1]) & (r < canvas.shape[0])
                canvas[r[ok], c[ok]] = colours[ok]

    @cached_property
    def _density(self) -> tuple[np.ndarray, float]:
        """H×W×4 colours of the density of what hot spots are looked for by, and the side of a bin in px of the finest level."""
        from pathasst.wsi.grids import CountGrid
        from pathasst.wsi.pictures import colours, density

        grid = CountGrid(self.size, BIN_UM / self.um_per_px)
        x, y, which, names = self._cells
        for number, name in enumerate(names):
            some = which == number
            rows, columns = (y[some] / grid.side).astype(int), (x[some] / grid.side).astype(int)
            counts = np.zeros(grid.shape, np.int32)
            np.add.at(counts, (rows.clip(0, grid.shape[0] - 1), columns.clip(0, grid.shape[1] - 1)), 1)
            grid.counts[name] = counts
        return colours(density(grid, POSITIVE.get(self.tool))), grid.side

    def _draw_density(self, canvas: np.ndarray, region: Any, factor: float, classes: frozenset[int] | None) -> None:
        import cv2

        heat, side = self._density
        # Bins' middles lie at +0.5: column c of the tile shows (region x + (c + 0.5) / factor) / side − 0.5 of the grid.
        step = 1 / (factor * side)
        matrix = np.array(
            [[step, 0, region[0] / side + step / 2 - 0.5], [0, step, region[1] / side + step / 2 - 0.5]], np.float32
        )
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        canvas[:] = cv2.warpAffine(heat, matrix, (canvas.shape[1], canvas.shape[0]), flags=flags, borderMode=cv2.BORDER_REPLICATE)

    @cached_property
    def _rings(self) -> list[np.ndarray]:
        try:
            content = json.loads((self.run.folder / TISSUE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return []
        polygons = [f["geometry"] for f in content["features"]]
        parts = [p for g in polygons for p in ([g["coordinates"]] if g["type"] == "Polygon" else g["coordinates"])]
        return [np.array(ring, float) for part in parts for ring in part]

    def _draw_tissue(self, canvas: np.ndarray, region: Any, factor: float, classes: frozenset[int] | None) -> None:
        import cv2

        far = 2**15 / 16  # OpenCV's fixed-point coordinates must not overflow
        for ring in self._rings:
            low, high = ring.min(0), ring.max(0)
            if (low > [region[0] + region[2], region[1] + region[3]]).any() or (high < region[:2]).any():
                continue
            corners = ((ring - region[:2]) * factor).clip(-far * 16, far * 16)
            cv2.polylines(canvas, [np.round(corners).astype(np.int32)], True, (0, 140, 70, 255), 2, cv2.LINE_AA)

    def _draw_spots(self, canvas: np.ndarray, region: Any, factor: float, classes: frozenset[int] | None) -> None:
        import cv2

        for number, spot in enumerate(self.run.summary["hot_spots"], 1):
            x, y = ((spot[k] - region[n]) * factor for n, k in enumerate("xy"))
            radius = spot["radius_px"] * factor
            if max(abs(x), abs(y), radius) > 30_000:
                continue
            cv2.circle(canvas, (round(x), round(y)), max(round(radius), 3), (20, 20, 20, 255), 3, cv2.LINE_AA)
            place = round(x) - 8, round(y) + 8
            cv2.putText(canvas, str(number), place, cv2.FONT_HERSHEY_SIMPLEX, 0.9, (20, 20, 20, 255), 2, cv2.LINE_AA)
