"""Areas out of GeoJSON as QuPath and other programs write it, with a count of what is no area. Knows shapes, no slide."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pathasst.core.errors import BadInput

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

MAX_BYTES = 500_000_000
FOUND = {"detection", "cell", "tile"}
"""QuPath's kinds of objects that a program places. Beside areas that a person drew they are no regions."""
CLASS_KEYS = ("classification", "class", "label", "name", "cell_type", "type", "group")
"""Where programs write an object's class: QuPath the first, tables of GeoPandas a column of any of these names."""


def read_regions(path: Path | str, classes: Sequence[str] = (), left_out: Counter[str] | None = None) -> BaseGeometry:
    """The areas of a GeoJSON file as one shape, in px of the slide's finest level.

    Read are a FeatureCollection, a list of features, one feature, a bare geometry, and one of these a line, as QuPath of any
    version and others write them, also in a gzip or zip file. Cells and other objects that a program placed count only where no
    area was drawn. `classes`: only objects of these classes. `left_out`: reasons are counted into it, such as "points".
    Raises BadInput for a file without areas, with the reasons.
    """
    path = Path(path)
    reasons: Counter[str] = Counter()
    drawn: list[BaseGeometry] = []
    placed: list[BaseGeometry] = []
    objects = 0
    for entry in _entries(_json(path), reasons):
        if classes and class_of(entry) not in classes:
            reasons["objects of other classes"] += 1
            continue
        properties = _properties(entry)
        kind = str(properties.get("objectType") or properties.get("object_type") or "").lower().replace("_", "")
        if kind == "tmacore" and properties.get("isMissing"):
            reasons["cores that are missing"] += 1
            continue
        areas = list(_areas(entry.get("geometry") if entry.get("type") == "Feature" else entry, reasons))
        if kind in FOUND:
            placed += areas
            objects += bool(areas)
        else:
            drawn += areas
    if drawn and placed:
        reasons["objects that a program placed, as areas were drawn"] += objects
    shapes = drawn or placed
    if left_out is not None:
        left_out.update(reasons)
    if not shapes:
        words = f" It holds {in_words(reasons)}." if reasons else ""
        of_classes = f" of the classes {', '.join(classes)}" if classes else ""
        raise BadInput(
            f"{path} holds no area{of_classes}.{words} Draw regions (polygon, rectangle, brush) and export them as GeoJSON."
        )
    from shapely import make_valid, union_all

    return union_all([make_valid(shape) for shape in shapes])


def in_words(reasons: Counter[str]) -> str:
    """Reasons with their counts, such as "3 × points, 1 × lines"."""
    return ", ".join(f"{n} × {reason}" for reason, n in reasons.items())


def class_of(entry: dict[str, Any]) -> str:
    """The class of a GeoJSON feature, empty without one; QuPath writes an object, other programs a text."""
    properties = _properties(entry)
    for key in CLASS_KEYS:
        value = properties.get(key)
        if isinstance(value, str) and value.startswith("{"):  # a table holds no object, so its JSON
            with suppress(ValueError):
                value = json.loads(value)
        if isinstance(value, dict):  # DSA has {"value": …}
            value = value.get("name") or value.get("value") or ": ".join(map(str, value.get("names") or []))
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value):
            return str(value)
    return ""


def _properties(entry: dict[str, Any]) -> dict[str, Any]:
    properties = entry.get("properties")
    return properties if isinstance(properties, dict) else {}


def _entries(content: Any, reasons: Counter[str]) -> Iterator[dict[str, Any]]:
    """Features and bare geometries, also those that QuPath nests as children of others."""
    if isinstance(content, list):
        for one in content:
            yield from _entries(one, reasons)
    elif isinstance(content, dict) and isinstance(content.get("features"), list):
        yield from _entries(content["features"], reasons)
    elif isinstance(content, dict) and (content.get("type") == "Feature" or "coordinates" in content or "geometries" in content):
        yield content
        children = _properties(content).get("childObjects")
        if isinstance(children, list):
            yield from _entries(children, reasons)
    else:
        keys = f" with the keys {', '.join(list(map(str, content))[:4])}" if isinstance(content, dict) else ""
        reasons[f"no GeoJSON object{keys}"] += 1


def _areas(geometry: Any, reasons: Counter[str]) -> Iterator[BaseGeometry]:
    """The polygons of a geometry; a part that is none is counted."""
    if not isinstance(geometry, dict):
        reasons["objects without a place"] += 1
        return
    kind = geometry.get("type")
    parts = geometry.get("geometries" if kind == "GeometryCollection" else "coordinates")
    if kind in ("Point", "MultiPoint"):
        reasons["points"] += 1
    elif kind in ("LineString", "MultiLineString"):
        reasons["lines"] += 1
    elif kind == "GeometryCollection" and isinstance(parts, list):
        for part in parts:
            yield from _areas(part, reasons)
    elif kind in ("Polygon", "MultiPolygon"):
        for rings in parts if kind == "MultiPolygon" and isinstance(parts, list) else [parts]:
            try:
                yield _polygon(rings)
            except (ValueError, TypeError, IndexError, KeyError) as error:
                reasons[f"outlines that cannot be read ({' '.join(str(error).split())[:80]})"] += 1
    else:
        reasons[f"geometries of the type {str(kind)[:40]!r}"] += 1


def _polygon(rings: Any) -> BaseGeometry:
    """Raises ValueError or TypeError for rings that are no polygon."""
    from shapely.errors import ShapelyError
    from shapely.geometry import Polygon

    if not isinstance(rings, list) or not rings:
        raise ValueError("no ring")
    corners = [np.array([[float(v) for v in corner[:2]] for corner in ring], float) for ring in rings]
    if not all(np.isfinite(ring).all() for ring in corners):
        raise ValueError("a corner that is no number")
    if len(corners[0]) < 3:
        raise ValueError("fewer than three corners")
    try:
        polygon = Polygon(corners[0], [hole for hole in corners[1:] if len(hole) > 2])
    except ShapelyError as error:
        raise ValueError(str(error)) from error
    if polygon.is_empty or not polygon.envelope.area:
        raise ValueError("no area")
    return polygon


def _json(path: Path) -> Any:
    """The file's content, JSON or one JSON a line (GeoJSON Text Sequences)."""
    try:
        text = _bytes(path).decode("utf-8-sig")
        try:
            return json.loads(text)
        except ValueError:
            lines = [line.strip("\x1e \t\r") for line in text.split("\n")]
            rows = [line for line in lines if line]
            if len(rows) < 2 or not all(row.startswith("{") and row.endswith("}") for row in rows):
                raise
            return [json.loads(row) for row in rows]
    except (OSError, EOFError, ValueError, RecursionError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise BadInput(f"{path} is no GeoJSON file: {error}") from error


def _bytes(path: Path) -> bytes:
    """Raises BadInput for a file of more than MAX_BYTES, also unpacked."""
    if path.stat().st_size > MAX_BYTES:
        raise BadInput(f"{path.name} has {path.stat().st_size >> 20} MB, the limit is {MAX_BYTES >> 20} MB.")
    with path.open("rb") as file:
        start = file.read(4)
    if start[:2] == b"\x1f\x8b":
        with gzip.open(path) as packed:
            content = packed.read(MAX_BYTES + 1)
    elif start == b"PK\x03\x04":
        with zipfile.ZipFile(path) as archive:
            names = [n for n in archive.namelist() if n.lower().endswith((".geojson", ".json"))]
            if len(names) != 1:
                raise BadInput(f"{path.name} holds {len(names)} GeoJSON files; one is wanted.")
            with archive.open(names[0]) as member:
                content = member.read(MAX_BYTES + 1)
    else:
        content = path.read_bytes()
    if len(content) > MAX_BYTES:
        raise BadInput(f"{path.name} has more than {MAX_BYTES >> 20} MB when unpacked.")
    return content
