"""GeoJSON as QuPath 0.5 or later reads it. Knows annotations and shapes, no tool."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pathasst.core.records import Annotation
from pathasst.imaging.drawing import colours_of, rgb
from pathasst.imaging.outlines import outlines_of_mark

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry


def feature_collection(annotations: Sequence[Annotation], shape: tuple[int, int] | None = None) -> dict[str, Any]:
    """A FeatureCollection, one detection an annotation, with class, colour and score; coordinates in px of the picture.

    A point is a Point, a box a Polygon, a mask the Polygon or MultiPolygon of its outlines. `shape`: height and width of the
    picture; masks need it. Ids follow from the content: the same result gives the same file. Raises BadInput for a mask that
    does not fit.
    """
    features = []
    for number, mark in enumerate(annotations):
        name = json.dumps([number, mark.kind, mark.label, mark.coordinates])
        features.append(feature(_geometry(mark, shape), name, mark.label, {"score": mark.score}))
    return {"type": "FeatureCollection", "features": features}


def feature(
    geometry: dict[str, Any],
    identity: str,
    label: str,
    measurements: dict[str, float],
    *,
    kind: str = "detection",
) -> dict[str, Any]:
    """One object as QuPath writes it. `identity`: what its UUID is made of; `kind`: detection or annotation."""
    properties: dict[str, Any] = {
        "objectType": kind,
        "classification": {"name": label, "color": list(rgb(colours_of([label])[label]))},
        "isLocked": kind == "annotation",
        "measurements": measurements,
    }
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, identity)),
        "geometry": geometry,
        "properties": properties,
    }


def ring_of(corners: Sequence[Sequence[float]]) -> list[list[float]]:
    """A closed ring with coordinates to a hundredth of a px."""
    ring = [[round(float(x), 2), round(float(y), 2)] for x, y in corners]
    return ring if ring[0] == ring[-1] else [*ring, ring[0]]


def box_geometry(x1: float, y1: float, x2: float, y2: float) -> dict[str, Any]:
    """A rectangle as a Polygon."""
    return {"type": "Polygon", "coordinates": [ring_of([(x1, y1), (x2, y1), (x2, y2), (x1, y2)])]}


def shape_geometry(area: BaseGeometry) -> dict[str, Any]:
    """A Polygon or MultiPolygon."""
    polygons = [
        [ring_of(list(ring.coords)) for ring in (polygon.exterior, *polygon.interiors)]
        for polygon in getattr(area, "geoms", [area])
    ]
    if len(polygons) == 1:
        return {"type": "Polygon", "coordinates": polygons[0]}
    return {"type": "MultiPolygon", "coordinates": polygons}


def _geometry(mark: Annotation, shape: tuple[int, int] | None) -> dict[str, Any]:
    if mark.kind == "point":
        return {"type": "Point", "coordinates": [float(v) for v in mark.coordinates[:2]]}
    if mark.kind == "mask" and mark.rle and shape is not None:
        outlines = outlines_of_mark(mark, shape)
        if not outlines.is_empty:
            return shape_geometry(outlines)
    x1, y1, x2, y2 = (float(v) for v in mark.coordinates)
    return box_geometry(x1, y1, x2, y2)
