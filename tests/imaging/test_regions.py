"""Areas out of GeoJSON as several programs write it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from pathasst.core.errors import BadInput
from pathasst.imaging.geojson import box_geometry, class_of, read_regions

SQUARE = {"type": "Polygon", "coordinates": [[[0, 0], [100, 0], [100, 100], [0, 100], [0, 0]]]}
FAR = {"type": "MultiPolygon", "coordinates": [[[[500, 0], [600, 0], [600, 50], [500, 50], [500, 0]]]]}
# QuPath 0.5 and later: `objectType`, colours as lists, measurements as an object.
QUPATH = {
    "type": "Feature",
    "id": "74e8e8a3-5a6f-4d0c-9f39-8c1c0d8d7a53",
    "geometry": SQUARE,
    "properties": {
        "objectType": "annotation",
        "classification": {"name": "Tumor", "color": [200, 0, 0]},
        "isLocked": True,
        "measurements": {},
    },
}
# QuPath 0.2 and 0.3: `colorRGB`, measurements as a list, planes in the geometry.
EARLIER = {
    "type": "Feature",
    "id": "PathAnnotationObject",
    "geometry": {**FAR, "plane": {"c": -1, "z": 0, "t": 0}},
    "properties": {"classification": {"name": "Stroma", "colorRGB": -6895466}, "isLocked": False, "measurements": []},
}
TEXT_CLASS = {"type": "Feature", "geometry": FAR, "properties": {"label": "lesion"}}
POINTS = {"type": "Feature", "geometry": {"type": "MultiPoint", "coordinates": [[1, 2], [3, 4]]}, "properties": None}


def _file(folder: Path, content: Any) -> Path:
    path = folder / "areas.geojson"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("content", "area"),
    [
        ({"type": "FeatureCollection", "features": [QUPATH, EARLIER, POINTS]}, 15_000),
        ([QUPATH, TEXT_CLASS], 15_000),
        (QUPATH, 10_000),
        (SQUARE, 10_000),
        ({"type": "GeometryCollection", "geometries": [SQUARE, FAR]}, 15_000),
        # A ring that crosses itself, as hands draw it.
        ({"type": "Polygon", "coordinates": [[[0, 0], [100, 100], [100, 0], [0, 100], [0, 0]]]}, 5_000),
    ],
)
def test_areas_of_every_form(tmp_path: Path, content: Any, area: float) -> None:
    assert read_regions(_file(tmp_path, content)).area == pytest.approx(area)


def test_classes_zip_and_byte_order_mark(tmp_path: Path) -> None:
    collection = {"type": "FeatureCollection", "features": [QUPATH, EARLIER, TEXT_CLASS]}
    assert [class_of(f) for f in collection["features"]] == ["Tumor", "Stroma", "lesion"]  # type: ignore[arg-type]
    assert read_regions(_file(tmp_path, collection), ["Tumor"]).area == 10_000
    packed = tmp_path / "areas.geojson.gz"
    packed.write_bytes(gzip.compress(b"\xef\xbb\xbf" + json.dumps(QUPATH).encode()))
    assert read_regions(packed).area == 10_000


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (POINTS, "no area"),
        ([], "no area"),
        ({"type": "Polygon", "coordinates": [[["a", "b"], [1, 2], [3, 4]]]}, "cannot be read"),
        ({"type": "Polygon", "coordinates": 7}, "cannot be read"),
        ("text", "no area"),
    ],
)
def test_what_has_no_area_is_one_clear_error(tmp_path: Path, content: Any, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        read_regions(_file(tmp_path, content))


def test_no_json_and_no_file(tmp_path: Path) -> None:
    (tmp_path / "a.geojson").write_text("{", encoding="utf-8")
    for name in ("a.geojson", "missing.geojson"):
        with pytest.raises(BadInput, match="no GeoJSON"):
            read_regions(tmp_path / name)


def test_what_we_write_we_read(tmp_path: Path) -> None:
    assert read_regions(_file(tmp_path, box_geometry(1, 2, 11, 22))).area == 200
