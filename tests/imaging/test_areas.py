"""Areas out of GeoJSON as several programs write it."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pathasst.core.errors import BadInput
from pathasst.imaging.areas import class_of, in_words, read_regions
from pathasst.imaging.geojson import box_geometry

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


def square(x: float, side: float = 10) -> dict[str, Any]:
    return box_geometry(x, 0, x + side, side)


def feature(geometry: Any, **properties: Any) -> dict[str, Any]:
    return {"type": "Feature", "geometry": geometry, "properties": properties}


CELL = {**feature(square(700), objectType="cell", classification={"name": "Tumor"}), "nucleusGeometry": square(702, 4)}
NESTED = feature(
    SQUARE, objectType="annotation", childObjects=[CELL, feature(square(300), objectType="annotation", name="inner")]
)
UNCLOSED = {"type": "Polygon", "coordinates": [[[0, 0, 0], [10, 0, 0], [10, 10, 0], [0, 10, 0]]]}
LINE = {"type": "LineString", "coordinates": [[0, 0], [5, 5]]}
NAN = {"type": "Polygon", "coordinates": [[[0, 0], [float("nan"), 0], [5, 5], [0, 0]]]}
TWO = {"type": "Polygon", "coordinates": [[[0, 0], [5, 5]]]}
DSA = {"name": "by hand", "elements": [{"type": "polyline", "closed": True, "points": [[0, 0, 0], [5, 0, 0], [5, 5, 0]]}]}


@pytest.mark.parametrize(
    ("content", "area", "left_out"),
    [
        # QuPath 0.6: names of derived classes, a name, an ellipse; what it nests counts by itself.
        ([feature({**square(0), "isEllipse": True}, classification={"names": ["Tumor", "Positive"]}, name="A")], 100, {}),
        (NESTED, 10_100, {"objects that a program placed, as areas were drawn": 1}),
        # Cells alone, as CellViT, StarDist or we write them, are areas; a group of them may be one MultiPolygon.
        ({"type": "FeatureCollection", "features": [CELL, CELL]}, 100, {}),
        ([{"type": "Feature", "id": "1", "geometry": FAR, "properties": {"classification": {"name": "Neoplastic"}}}], 5_000, {}),
        # QuPath's tissue microarrays, of 0.2 with another spelling.
        (
            [feature(square(0), objectType="tmaCore", isMissing=True), feature(square(50), object_type="tma_core")],
            100,
            {"cores that are missing": 1},
        ),
        # GeoPandas, LazySlide, spatialdata: a name and a reference system, flat columns.
        ({"type": "FeatureCollection", "name": "t", "crs": {}, "features": [feature(square(0), tissue_id=0)]}, 100, {}),
        # Third coordinates and rings that are not closed, as converters of ASAP's and Halo's XML write them.
        (feature(UNCLOSED, name="Annotation 1", color="#F4FA58"), 100, {}),
        # tiatoolbox, HistomicsUI: shapes of all kinds in one file.
        (
            [feature(square(0), type="Tumor"), feature(POINTS["geometry"]), feature(LINE), feature(None), 7, DSA],
            100,
            {
                "points": 1, "lines": 1, "objects without a place": 1, "no GeoJSON object": 1,
                "no GeoJSON object with the keys name, elements": 1,
            },
        ),
        # One bad outline costs itself.
        (
            [feature(square(0)), feature(NAN), feature(TWO), {"type": "Circle", "coordinates": [1, 2]}],
            100,
            {
                "outlines that cannot be read (a corner that is no number)": 1,
                "outlines that cannot be read (fewer than three corners)": 1,
                "geometries of the type 'Circle'": 1,
            },
        ),
        ({"type": "MultiPolygon", "coordinates": [square(0)["coordinates"], TWO["coordinates"]]}, 100, {
            "outlines that cannot be read (fewer than three corners)": 1}),
    ],
)  # fmt: skip
def test_what_other_programs_write(tmp_path: Path, content: Any, area: float, left_out: dict[str, int]) -> None:
    counted: Counter[str] = Counter()
    assert read_regions(_file(tmp_path, content), left_out=counted).area == pytest.approx(area)
    assert counted == left_out


@pytest.mark.parametrize(
    ("properties", "name"),
    [
        ({"classification": {"name": "Tumor", "colorRGB": -65536}}, "Tumor"),
        ({"classification": {"names": ["Tumor", "Positive"], "color": [1, 2, 3]}}, "Tumor: Positive"),
        ({"classification": "Stroma"}, "Stroma"),
        ({"classification": '{"name": "Tumor", "color": [1, 2, 3]}'}, "Tumor"),
        ({"label": {"value": "gland"}}, "gland"),
        ({"class": "Necrosis", "prob": 0.9}, "Necrosis"),
        ({"cell_type": 3}, "3"),
        ({"classification": None, "name": "Region 1"}, "Region 1"),
        ({"classification": {}, "isLocked": True}, ""),
        ([], ""),
    ],
)
def test_the_class_as_programs_name_it(properties: Any, name: str) -> None:
    assert class_of({"type": "Feature", "properties": properties}) == name


def test_one_feature_a_line_and_a_zip(tmp_path: Path) -> None:
    lines = tmp_path / "areas.geojsonl"
    lines.write_text("".join(f"\x1e{json.dumps(feature(square(x)))}\r\n" for x in (0, 20, 40)), encoding="utf-8")
    assert read_regions(lines).area == 300
    packed = tmp_path / "areas.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("case.geojson", json.dumps(QUPATH))
    assert read_regions(packed).area == 10_000
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("other.geojson", "{}")
    with pytest.raises(BadInput, match="holds 2 GeoJSON files"):
        read_regions(packed)


def test_an_error_counts_what_the_file_has_instead(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="2 × points, 1 × lines"):
        read_regions(_file(tmp_path, [POINTS, POINTS, feature(LINE)]))
    assert in_words(Counter({"points": 2})) == "2 × points"
