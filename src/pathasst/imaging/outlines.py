"""Masks as polygons along the edges of their px. Knows arrays and shapes alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pathasst.imaging import rle

if TYPE_CHECKING:
    from shapely.geometry import MultiPolygon

    from pathasst.core.records import Annotation


def outlines_of_mark(mark: Annotation, shape: tuple[int, int]) -> MultiPolygon:
    """The outlines of a mask on a picture of `shape` (height, width), as `outlines_of`; only the mask's box is looked at.

    Raises BadInput for a mask that does not fit.
    """
    from shapely.affinity import translate

    height, width = shape
    x1, y1, x2, y2 = mark.coordinates
    box = max(int(x1), 0), max(int(y1), 0), min(int(np.ceil(x2)), width), min(int(np.ceil(y2)), height)
    return translate(outlines_of(rle.decode_box(mark.rle, height, width, box)), box[0], box[1])  # type: ignore[no-any-return]


def outlines_of(mask: np.ndarray) -> MultiPolygon:
    """The outlines of an H×W bool mask in px, holes included; valid polygons, none for an empty mask."""
    import cv2
    from shapely import make_valid, union_all
    from shapely.geometry import MultiPolygon, Polygon

    # OpenCV's contours run through the middles of px. In a mask twice as large every second of these lies on an edge.
    large = np.repeat(np.repeat(mask.astype(np.uint8), 2, 0), 2, 1)
    contours, tree = cv2.findContours(large, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    rings = [np.ceil(contour[:, 0] / 2) for contour in contours]
    parts = []
    for number, ring in enumerate(rings):
        if tree[0, number, 3] >= 0 or len(ring) < 3:
            continue
        holes, child = [], tree[0, number, 2]
        while child >= 0:
            if len(rings[child]) >= 3:
                holes.append(rings[child])
            child = tree[0, child, 0]
        parts.append(make_valid(Polygon(ring, holes)))
    merged = union_all(parts) if parts else MultiPolygon()
    return MultiPolygon([p for p in getattr(merged, "geoms", [merged]) if p.geom_type == "Polygon" and not p.is_empty])
