"""The objects of a slide as files, written as they come: GeoJSON, CSV, Parquet. Knows objects, no tool."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from pathasst.wsi.objects import SlideObject

COLUMNS = ("object", "class", "x_px", "y_px", "x_um", "y_um", "score", "area_um2")
PARQUET = "cells.parquet"
ROWS = 20_000
"""Rows that are held before they are written."""


class CellTable:
    """`objects.geojson`, `cells.csv` and `cells.parquet` of a folder; each replaces the earlier file once it is whole."""

    def __init__(self, out: Path, um_per_px: float) -> None:
        self.out, self.um_per_px, self.objects = out, um_per_px, 0
        self._rows: list[dict[str, Any]] = []

    def __enter__(self) -> CellTable:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._schema = pa.schema([("x", pa.float32()), ("y", pa.float32()), ("label", pa.string()), ("score", pa.float32())])
        self._parquet = pq.ParquetWriter(self._new(PARQUET), self._schema, compression="zstd")
        self._geojson = self._new("objects.geojson").open("w", encoding="utf-8")
        self._geojson.write('{"type": "FeatureCollection", "features": [')
        self._csv = self._new("cells.csv").open("w", newline="", encoding="utf-8")
        self._writer = csv.writer(self._csv)
        self._writer.writerow(COLUMNS)
        return self

    def add(self, one: SlideObject) -> None:
        self._geojson.write(",\n" if self.objects else "\n")
        json.dump(one.geojson(self.objects), self._geojson)
        self.objects += 1
        scale = self.um_per_px
        area = round(_area(one.rings) * scale**2, 2) if one.rings else ""
        place = one.x, one.y, round(one.x * scale, 2), round(one.y * scale, 2)
        self._writer.writerow([self.objects, one.label, *place, one.score, area])
        self._rows.append({"x": one.x, "y": one.y, "label": one.label, "score": one.score})
        if len(self._rows) >= ROWS:
            self._flush()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self._flush()
            self._geojson.write("\n]}\n")
        for file in (self._parquet, self._geojson, self._csv):
            file.close()
        for name in (PARQUET, "objects.geojson", "cells.csv"):
            if kind is None:
                self._new(name).replace(self.out / name)
            else:
                self._new(name).unlink(missing_ok=True)

    def _flush(self) -> None:
        import pyarrow as pa

        if self._rows:
            self._parquet.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
            self._rows = []

    def _new(self, name: str) -> Path:
        return self.out / f".{name}.new"


def _area(rings: list[list[float]]) -> float:
    from shapely.geometry import Polygon

    corners = [np.reshape(ring, (-1, 2)) for ring in rings]
    return float(Polygon(corners[0], corners[1:]).area)


def cells_near(out: Path, x: float, y: float, radius: float, cells: int = 0) -> tuple[float, list[str]]:
    """Labels of the objects within `radius` px of a place; with `cells`, of the so many nearest, and how far these reach."""
    import pyarrow.parquet as pq

    reach = radius * 6 if cells else radius
    labels: list[str] = []
    distances: list[np.ndarray] = []
    with pq.ParquetFile(out / PARQUET) as file:
        for batch in file.iter_batches(batch_size=ROWS, columns=["x", "y", "label"]):
            squared = (batch["x"].to_numpy() - x) ** 2 + (batch["y"].to_numpy() - y) ** 2
            near = np.flatnonzero(squared <= reach**2)
            distances.append(np.sqrt(squared[near]))
            labels += batch["label"].take(near).to_pylist()
    if not cells or not labels:
        return radius, labels
    far = np.concatenate(distances)
    order = np.argsort(far, kind="stable")[:cells]
    return float(far[order[-1]]), [labels[i] for i in order]


def read_objects(out: Path) -> Iterator[SlideObject]:
    """The objects of `objects.geojson`, one after the other."""
    with (out / "objects.geojson").open(encoding="utf-8") as file:
        next(file)
        for line in file:
            if line.startswith("]"):
                return
            yield _object(json.loads(line.rstrip().rstrip(",")))


def _object(entry: dict[str, Any]) -> SlideObject:
    geometry, properties = entry["geometry"], entry["properties"]
    label, score = properties["classification"]["name"], properties["measurements"]["score"]
    if geometry["type"] == "Point":
        return SlideObject(label=label, score=score, x=geometry["coordinates"][0], y=geometry["coordinates"][1])
    rings = [np.array(ring, float) for ring in geometry["coordinates"]]
    low, high = rings[0].min(0), rings[0].max(0)
    middle = (low + high) / 2
    return SlideObject(
        label=label,
        score=score,
        x=float(middle[0]),
        y=float(middle[1]),
        box=[*low.tolist(), *high.tolist()],
        rings=[] if len(rings[0]) == 5 and len(rings) == 1 else [ring.ravel().tolist() for ring in rings],
    )


def cells_in(out: Path, box: tuple[float, float, float, float]) -> list[tuple[float, float, str]]:
    """x, y and label of the objects in a box x1 y1 x2 y2 of px of the finest level."""
    import pyarrow.parquet as pq

    x1, y1, x2, y2 = box
    cells: list[tuple[float, float, str]] = []
    with pq.ParquetFile(out / PARQUET) as file:
        for batch in file.iter_batches(batch_size=ROWS, columns=["x", "y", "label"]):
            x, y = batch["x"].to_numpy(), batch["y"].to_numpy()
            inside = np.flatnonzero((x >= x1) & (x < x2) & (y >= y1) & (y < y2))
            cells += zip(x[inside].tolist(), y[inside].tolist(), batch["label"].take(inside).to_pylist(), strict=True)
    return cells
