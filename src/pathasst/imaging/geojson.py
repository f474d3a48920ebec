"""What a tool found as GeoJSON that QuPath 0.5 or later opens by drag and drop. Knows annotations, no tool."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np

from pathasst.core.records import Annotation
from pathasst.imaging import rle
from pathasst.imaging.drawing import colours_of


def feature_collection(annotations: Sequence[Annotation], shape: tuple[int, int] | None = None) -> dict[str, Any]:
    """A FeatureCollection, one detection an annotation, with class, colour and score; coordinates in px of the picture.

    A point is a Point, a box a Polygon, a mask the MultiPolygon of its outlines. `shape`: height and width of the picture; masks
    need it. Ids follow from the content: the same result gives the same file. Raises BadInput for a mask that does not fit.
    """
    colours = colours_of([a.label for a in annotations])
    features = []
    for number, mark in enumerate(annotations):
        name = json.dumps([number, mark.kind, mark.label, mark.coordinates])
        rgb = [int(colours[mark.label].lstrip("#")[i : i + 2], 16) for i in (0, 2, 4)]
        features.append(
            {
                "type": "Feature",
                "id": str(uuid.uuid5(uuid.NAMESPACE_URL, name)),
                "geometry": _geometry(mark, shape),
                "properties": {
                    "objectType": "detection",
                    "classification": {"name": mark.label, "color": rgb},
                    "isLocked": False,
                    "measurements": {"score": mark.score},
                },
            }
        )
    return {"type": "FeatureCollection", "features": features}


def _geometry(mark: Annotation, shape: tuple[int, int] | None) -> dict[str, Any]:
    if mark.kind == "point":
        return {"type": "Point", "coordinates": [float(v) for v in mark.coordinates[:2]]}
    if mark.kind == "mask" and mark.rle and shape is not None:
        outlines = _outlines(rle.decode(mark.rle, *shape))
        if outlines:
            return {"type": "MultiPolygon", "coordinates": [[outline] for outline in outlines]}
    x1, y1, x2, y2 = (float(v) for v in mark.coordinates)
    return {"type": "Polygon", "coordinates": [[[x1, y1], [x2, y1], [x2, y2], [x1, y2], [x1, y1]]]}


def _outlines(mask: np.ndarray) -> list[list[list[float]]]:
    """Closed outer outlines of an H×W bool mask, of at least three corners."""
    import cv2

    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    rings = [contour[:, 0].astype(float).tolist() for contour in contours if len(contour) >= 3]
    return [[*ring, ring[0]] for ring in rings]
