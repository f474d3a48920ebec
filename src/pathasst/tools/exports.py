"""A tool's result on a picture for other programs: GeoJSON for QuPath, COCO. Knows results and files, no tool."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pathasst.core.files import write_atomic
from pathasst.core.records import Annotation, ToolResult
from pathasst.imaging import rle
from pathasst.imaging.geojson import feature_collection
from pathasst.imaging.outlines import outlines_of_mark
from pathasst.imaging.pictures import read_header
from pathasst.imaging.slides import open_slide


def write_geojson(result: ToolResult, path: Path, file: Path) -> None:
    """The result on `path` as GeoJSON; of a region in px of the whole slide's finest level. Raises BadInput."""
    shape, origin, factor = _frame(result, path)
    collection = feature_collection(result.annotations, shape)
    for entry in collection["features"]:
        entry["geometry"]["coordinates"] = _moved(entry["geometry"]["coordinates"], origin, factor)
    write_atomic(file, json.dumps(collection).encode())


def write_coco(result: ToolResult, path: Path, file: Path) -> None:
    """The result on `path` as COCO JSON, in px of the picture or region that the tool saw. Raises BadInput.

    Boxes and masks are annotations with `bbox` and `segmentation`; a point is a keypoint with an empty box.
    """
    shape, _, _ = _frame(result, path)
    labels = list(dict.fromkeys(mark.label for mark in result.annotations))
    marks = [_coco(n, mark, labels, shape) for n, mark in enumerate(result.annotations, 1)]
    content = {
        "info": {"description": f"{result.name}, {result.version}", "contributor": "PathAsst"},
        "images": [{"id": 1, "file_name": path.name, "width": shape[1], "height": shape[0]}],
        "categories": [{"id": n, "name": label, "supercategory": result.name} for n, label in enumerate(labels, 1)],
        "annotations": marks,
    }
    write_atomic(file, json.dumps(content).encode())


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


def _moved(coordinates: Any, origin: tuple[float, float], factor: float) -> Any:
    if isinstance(coordinates[0], int | float):
        return [round(c * factor + o, 2) for c, o in zip(coordinates, origin, strict=True)]
    return [_moved(part, origin, factor) for part in coordinates]


def _coco(number: int, mark: Annotation, labels: list[str], shape: tuple[int, int]) -> dict[str, Any]:
    entry: dict[str, Any] = {"id": number, "image_id": 1, "category_id": labels.index(mark.label) + 1, "score": mark.score}
    entry |= {"iscrowd": 0, "segmentation": []}
    if mark.kind == "point":
        x, y = mark.coordinates[:2]
        return {**entry, "bbox": [x, y, 0.0, 0.0], "area": 0.0, "keypoints": [x, y, 2], "num_keypoints": 1}
    x1, y1, x2, y2 = mark.coordinates
    entry |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
    if mark.kind == "mask" and mark.rle:
        outlines = outlines_of_mark(mark, shape)
        rings = [[v for corner in part.exterior.coords[:-1] for v in corner[:2]] for part in outlines.geoms]
        entry |= {"segmentation": rings, "area": float(rle.area(mark.rle))}
    return entry
