"""COCO JSON of one picture: categories, and one annotation an object. Knows boxes and outlines, no tool and no slide."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pathasst.core.files import write_atomic


def coco_object(
    category: int,
    score: float,
    box: tuple[float, float, float, float],
    *,
    point: tuple[float, float] | None = None,
    outline: Sequence[Sequence[float]] = (),
    area: float | None = None,
) -> dict[str, Any]:
    """One annotation. `category`: place among the labels; `box`: x1 y1 x2 y2 px; `outline`: rings x y …; `area`: or the box's."""
    x1, y1, x2, y2 = box
    width, height = round(x2 - x1, 2), round(y2 - y1, 2)
    entry: dict[str, Any] = {"image_id": 1, "category_id": category + 1, "score": score, "iscrowd": 0}
    entry |= {"bbox": [x1, y1, width, height], "area": round(width * height, 2) if area is None else area}
    entry["segmentation"] = [list(ring) for ring in outline]
    return entry if point is None else entry | {"keypoints": [*point, 2], "num_keypoints": 1}


def write_coco(
    file: Path,
    tool: str,
    version: str,
    picture: str,
    size: tuple[int, int],
    labels: Sequence[str],
    objects: Iterable[dict[str, Any]],
) -> Path:
    """Write the annotations of a picture of `size` (width, height) px whose objects a tool labelled."""
    content = {
        "info": {"description": f"{tool}, {version}", "contributor": "PathAsst"},
        "images": [{"id": 1, "file_name": picture, "width": size[0], "height": size[1]}],
        "categories": [{"id": n, "name": label, "supercategory": tool} for n, label in enumerate(labels, 1)],
        "annotations": [{"id": n, **one} for n, one in enumerate(objects, 1)],
    }
    write_atomic(file, json.dumps(content).encode())
    return file
