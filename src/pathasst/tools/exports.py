"""A tool's result on a picture for other programs: GeoJSON for QuPath, COCO. Knows results and files, no tool."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pathasst.core.files import write_atomic
from pathasst.core.records import Annotation, ToolResult
from pathasst.imaging import coco, rle
from pathasst.imaging.geojson import feature_collection
from pathasst.imaging.outlines import outlines_of_mark
from pathasst.imaging.pictures import read_header
from pathasst.imaging.slides import open_slide


def write_geojson(result: ToolResult, path: Path, file: Path) -> None:
    """The result on `path` as GeoJSON; of a region in px of the whole slide's finest level. Raises BadInput."""
    shape, origin, factor = _frame(result, path)
    collection = feature_collection(result.annotations, shape)
    for entry in collection["features"]:
        entry["geometry"]["coordinates"] = _shift(entry["geometry"]["coordinates"], origin, factor)
    write_atomic(file, json.dumps(collection).encode())


def write_coco(result: ToolResult, path: Path, file: Path) -> None:
    """The result on `path` as COCO JSON, in px of the picture or region that the tool saw. Raises BadInput.

    Boxes and masks are annotations with `bbox` and `segmentation`; a point is a keypoint with an empty box.
    """
    shape, _, _ = _frame(result, path)
    labels = list(dict.fromkeys(mark.label for mark in result.annotations))
    marks = (_coco(mark, labels, shape) for mark in result.annotations)
    coco.write_coco(file, result.name, result.version, path.name, (shape[1], shape[0]), labels, marks)


def _frame(result: ToolResult, path: Path) -> tuple[tuple[int, int], tuple[float, float], float]:
    """Height and width of what the tool saw, where its corner lies in the whole, px of the whole per px of it."""
    region = result.numbers.get("region")
    if region is None:
        header = read_header(path)
        return (header.height, header.width), (0.0, 0.0), 1.0
    x, y, width, height = region
    shrink, level = 1.0, int(result.numbers.get("level") or 0)
    if level:
        with open_slide(path) as slide:
            shrink = sum(slide.levels[level].downsample) / 2
    shape = max(round(height / shrink), 1), max(round(width / shrink), 1)
    return shape, (float(x), float(y)), width / shape[1]


def _shift(coordinates: Any, origin: tuple[float, float], factor: float) -> Any:
    if isinstance(coordinates[0], int | float):
        return [round(c * factor + o, 2) for c, o in zip(coordinates, origin, strict=True)]
    return [_shift(part, origin, factor) for part in coordinates]


def _coco(mark: Annotation, labels: list[str], shape: tuple[int, int]) -> dict[str, Any]:
    category = labels.index(mark.label)
    if mark.kind == "point":
        x, y = mark.coordinates[:2]
        return coco.coco_object(category, mark.score, (x, y, x, y), point=(x, y))
    x1, y1, x2, y2 = mark.coordinates
    if mark.kind == "mask" and mark.rle:
        outline = [
            [v for corner in part.exterior.coords[:-1] for v in corner[:2]] for part in outlines_of_mark(mark, shape).geoms
        ]
        return coco.coco_object(category, mark.score, (x1, y1, x2, y2), outline=outline, area=float(rle.area(mark.rle)))
    return coco.coco_object(category, mark.score, (x1, y1, x2, y2))
