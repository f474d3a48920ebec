"""COCO JSON of a slide: one image, one annotation an object, written as they come."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pathasst.core.files import write_atomic
from pathasst.imaging.slides import Slide
from pathasst.wsi.exports.source import Objects


def write_coco(objects: Objects, slide: Slide, file: Path) -> Path:
    """Boxes and outlines in px of the finest level; a point is a keypoint with the box of a cell around it."""
    content = {
        "info": {"description": f"{objects.tool}, {objects.version}", "contributor": "PathAsst"},
        "images": [{"id": 1, "file_name": slide.name, "width": slide.size[0], "height": slide.size[1]}],
        "categories": [{"id": n, "name": label, "supercategory": objects.tool} for n, label in enumerate(objects.labels, 1)],
        "annotations": [_annotation(objects, n) for n in range(len(objects))],
    }
    write_atomic(file, json.dumps(content).encode())
    return file


def _annotation(objects: Objects, n: int) -> dict[str, Any]:
    from shapely.geometry import Polygon

    x1, y1, x2, y2 = (round(float(v), 2) for v in objects.boxes[n])
    entry: dict[str, Any] = {
        "id": n + 1,
        "image_id": 1,
        "category_id": int(objects.classes[n]) + 1,
        "score": round(float(objects.scores[n]), 4),
        "bbox": [x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)],
        "area": round((x2 - x1) * (y2 - y1), 2),
        "iscrowd": 0,
        "segmentation": [],
    }
    if objects.points[n]:
        entry |= {"keypoints": [round((x1 + x2) / 2, 2), round((y1 + y2) / 2, 2), 2], "num_keypoints": 1}
    elif rings := objects.rings[n]:
        entry["segmentation"] = [rings[0][:-1].round(2).ravel().tolist()]
        entry["area"] = round(float(Polygon(rings[0], rings[1:]).area), 2)
    return entry
