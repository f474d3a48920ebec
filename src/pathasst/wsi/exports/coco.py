"""COCO JSON of a slide: one image, one annotation an object."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pathasst.imaging import coco
from pathasst.imaging.slides import Slide
from pathasst.wsi.exports.source import Objects


def write_coco(objects: Objects, slide: Slide, file: Path) -> Path:
    """Boxes and outlines in px of the finest level; a point is a keypoint with the box of a cell around it."""
    entries = (_entry(objects, n) for n in range(len(objects)))
    return coco.write_coco(file, objects.tool, objects.version, slide.name, slide.size, objects.labels, entries)


def _entry(objects: Objects, n: int) -> dict[str, Any]:
    from shapely.geometry import Polygon

    x1, y1, x2, y2 = (round(float(v), 2) for v in objects.boxes[n])
    category, score, box = int(objects.classes[n]), round(float(objects.scores[n]), 4), (x1, y1, x2, y2)
    if objects.points[n]:
        return coco.coco_object(category, score, box, point=(round((x1 + x2) / 2, 2), round((y1 + y2) / 2, 2)))
    if rings := objects.rings[n]:
        area = round(float(Polygon(rings[0], rings[1:]).area), 2)
        return coco.coco_object(category, score, box, outline=[rings[0][:-1].round(2).ravel().tolist()], area=area)
    return coco.coco_object(category, score, box)
