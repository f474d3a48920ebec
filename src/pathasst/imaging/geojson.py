"""GeoJSON as QuPath 0.5 or later writes and reads it: objects out, regions in. Knows annotations and shapes, no tool."""

from __future__ import annotations

import gzip
import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pathasst.core.errors import BadInput
from pathasst.core.records import Annotation
from pathasst.imaging.drawing import colours_of, rgb
from pathasst.imaging.outlines import outlines_of_mark

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

MAX_BYTES = 500_000_000


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


def read_regions(path: Path | str, classes: Sequence[str] = ()) -> BaseGeometry:
    """The areas of a GeoJSON file as one shape, in px of the slide's finest level: polygons alone, points and lines left out.

    Read are a FeatureCollection, a list of features, one feature or a bare geometry, as QuPath of any version and others write
    them, also gzipped. `classes`: only objects of these classes. Raises BadInput for a file without areas.
    """
    from shapely import make_valid, union_all

    content = _json(Path(path))
    shapes = []
    for entry in _features(content):
        label = class_of(entry)
        if classes and label not in classes:
            continue
        shapes += _areas(entry.get("geometry") if entry.get("type") == "Feature" else entry, Path(path).name)
    if not shapes:
        of_classes = f" of the classes {', '.join(classes)}" if classes else ""
        raise BadInput(f"{path} holds no area{of_classes}: draw regions (polygon, rectangle, brush) and export them as GeoJSON.")
    return union_all([make_valid(shape) for shape in shapes])


def class_of(entry: dict[str, Any]) -> str:
    """The class of a GeoJSON feature, empty without one; QuPath writes an object, other programs a text."""
    properties = entry.get("properties") or {}
    classification = properties.get("classification")
    if isinstance(classification, dict):
        return str(classification.get("name") or ": ".join(map(str, classification.get("names") or [])))
    return str(classification or properties.get("label") or "")


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


def _json(path: Path) -> Any:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BadInput(f"{path.name} has {path.stat().st_size >> 20} MB, the limit is {MAX_BYTES >> 20} MB.")
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            with gzip.open(path) as file:
                content = file.read(MAX_BYTES + 1)
            if len(content) > MAX_BYTES:
                raise BadInput(f"{path.name} has more than {MAX_BYTES >> 20} MB when unpacked.")
        return json.loads(content.decode("utf-8-sig"))
    except (OSError, EOFError, ValueError, RecursionError) as error:
        raise BadInput(f"{path} is no GeoJSON file: {error}") from error


def _features(content: Any) -> list[dict[str, Any]]:
    if isinstance(content, dict) and isinstance(content.get("features"), list):
        content = content["features"]
    entries = content if isinstance(content, list) else [content]
    return [entry for entry in entries if isinstance(entry, dict)]


def _areas(geometry: Any, file: str) -> list[BaseGeometry]:
    from shapely.errors import ShapelyError
    from shapely.geometry import shape

    if not isinstance(geometry, dict):
        return []
    if geometry.get("type") == "GeometryCollection":
        return [area for part in geometry.get("geometries") or [] for area in _areas(part, file)]
    if geometry.get("type") not in ("Polygon", "MultiPolygon"):
        return []
    try:
        area = shape(geometry)
    except (ShapelyError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise BadInput(f"{file}: an area cannot be read: {error}") from error
    return [] if area.is_empty else [area]
