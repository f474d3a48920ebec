"""Exports of QuPath, CVAT and Label Studio: the shapes where they were drawn, and what is left out counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pathasst.core.errors import BadDataset, PathAsstError
from pathasst.imaging.annotation_files import read_annotations
from pathasst.imaging.annotations import read_marks
from pathasst.imaging.pictures import encode_png
from pathasst.nn.classifier.items import read_items
from pathasst.nn.detector.data import read
from pathasst.nn.detector.settings import DetectorData
from pathasst.nn.p2pnet.data import read_fields
from pathasst.nn.p2pnet.settings import PointData

SQUARE = [[10, 20], [30, 20], [30, 50], [10, 50], [10, 20]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.png").write_bytes(encode_png(np.zeros((100, 200, 3), np.uint8)))
    return tmp_path


def feature(geometry: Any, name: str | None = "cell") -> dict[str, Any]:
    classification = {"classification": {"name": name, "color": [1, 2, 3]}} if name else {}
    return {"type": "Feature", "id": "x", "geometry": geometry, "properties": {"objectType": "annotation", **classification}}


def qupath(folder: Path) -> Path:
    features = [
        feature({"type": "Polygon", "coordinates": [SQUARE, [[12, 22], [14, 22], [14, 24]]]}),  # the hole counts for nothing
        feature({"type": "MultiPolygon", "coordinates": [[[[0, 0], [4, 0], [4, 4]]], [[[50, 50], [60, 50], [60, 70]]]]}),
        feature({"type": "Polygon", "coordinates": [SQUARE]}),
        feature({"type": "Point", "coordinates": [5, 5]}, None),
        feature({"type": "Polygon", "coordinates": []}),
    ]
    file = folder / "a.geojson"
    file.write_text(json.dumps({"type": "FeatureCollection", "features": features}), encoding="utf-8-sig")
    return file


def test_qupath(folder: Path) -> None:
    annotated = read_annotations(qupath(folder))
    assert annotated is not None
    assert [s.box for s in annotated.pictures["a.png"]] == [(10, 20, 30, 50), (0, 0, 4, 4), (50, 50, 60, 70)]
    assert annotated.left_out == {"duplicate": 1, "without a class": 1, "without a shape": 1}


def cvat(folder: Path) -> Path:
    file = folder / "annotations.xml"
    file.write_text("""<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version>
<image id="0" name="set\\a.png" subset="Validation" width="200" height="100">
 <box label="cell" xtl="10" ytl="20" xbr="30" ybr="50" occluded="0"/>
 <box label="cell" xtl="40" ytl="40" xbr="60" ybr="50" rotation="90"/>
 <polygon label="cell" points="0,0;4,0;4,4"/>
 <points label="cell" points="70,80;90,10"/>
 <ellipse label="cell" cx="100" cy="50" rx="10" ry="5"/>
 <polygon label="cell" points="broken"/>
 <box label="cell" xtl="10" ytl="20" xbr="30" ybr="50"/>
</image>
<track id="0" label="cell"><box frame="0" xtl="1" ytl="1" xbr="2" ybr="2"/></track>
</annotations>""")
    return file


def test_cvat(folder: Path) -> None:
    annotated = read_annotations(cvat(folder))
    assert annotated is not None
    boxes = [tuple(round(v, 3) for v in s.box) for s in annotated.pictures["set/a.png"]]
    assert boxes == [
        (10, 20, 30, 50), (45, 35, 55, 55), (0, 0, 4, 4), (70, 80, 70, 80), (90, 10, 90, 10), (90, 45, 110, 55)
    ]  # fmt: skip
    assert annotated.left_out == {"without a shape": 1, "duplicate": 1, "of a video track": 1}


def label_studio(folder: Path) -> Path:
    def result(kind: str, label: str, **value: Any) -> dict[str, Any]:
        return {"type": kind, "original_width": 200, "original_height": 100, "value": {**value, kind: [label] if label else []}}

    results = [
        result("rectanglelabels", "cell", x=5, y=20, width=10, height=30, rotation=0),
        result("polygonlabels", "cell", points=[[0, 0], [2, 0], [2, 4]]),
        result("keypointlabels", "cell", x=35, y=80, width=0.5),
        result("ellipselabels", "cell", x=50, y=50, radiusX=5, radiusY=5),
        result("rectanglelabels", "", x=5, y=20, width=10, height=30),
        {"type": "choices", "value": {"choices": ["good"]}},
    ]
    tasks = [
        {
            "id": 1,
            "data": {"image": "/data/upload/1/0123abcd-a.png"},
            "annotations": [{"result": results}, {"was_cancelled": True}],
        },
        {"id": 2, "data": {}, "annotations": []},
    ]
    file = folder / "project.json"
    file.write_text(json.dumps(tasks))
    return file


def test_label_studio(folder: Path) -> None:
    annotated = read_annotations(label_studio(folder))
    assert annotated is not None
    assert [s.box for s in annotated.pictures["a.png"]] == [(10, 20, 30, 50), (0, 0, 4, 4), (70, 80, 70, 80), (90, 45, 110, 55)]
    assert annotated.left_out == {"without a class": 1, "without a shape": 1, "cancelled": 1, "without a picture": 1}


@pytest.mark.parametrize("export", [qupath, cvat, label_studio])
def test_detector_and_points_take_exports(folder: Path, export: Any) -> None:
    file = export(folder)
    with pytest.warns(UserWarning, match="annotations are left out"):
        [picture] = read(DetectorData(boxes=str(file)), ["cell"])
    assert picture.boxes[0].tolist() == [10, 20, 30, 50]
    assert picture.pixels().shape == (100, 200, 3)
    with pytest.warns(UserWarning, match="left out"):
        [field] = read_fields(PointData(points=str(file), scale=1.0), ["cell"])
    assert field.points[0].tolist() == [20, 35]


def test_an_export_without_its_picture_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadDataset, match=r"no a\.png"):
        read(DetectorData(boxes=str(qupath(tmp_path))), ["cell"])
    with pytest.raises(BadDataset, match=r"none of its 1 pictures .*'set/a\.png'"), pytest.warns(UserWarning):
        read(DetectorData(boxes=str(cvat(tmp_path))), ["cell"])


@pytest.mark.parametrize(
    ("encoding", "separator"), [("utf-8-sig", ","), ("utf-16", ";"), ("cp1252", ";"), ("utf-8", "\t"), ("utf-16-le", ",")]
)
def test_marks_in_every_encoding(tmp_path: Path, encoding: str, separator: str) -> None:
    rows = ["Image,XMIN,Ymin,xmax,YMAX,Label", "ä.png,1,2,3,4,Zölle", "ä.png,1,2,3,4,Zölle", "b.png,,,,,", ""]
    (tmp_path / "boxes.csv").write_bytes("\r\n".join(rows).replace(",", separator).encode(encoding))
    with pytest.warns(UserWarning, match="1 duplicate"):
        marks = read_marks(tmp_path / "boxes.csv", ("xmin", "ymin", "xmax", "ymax"))
    assert marks == {"ä.png": ("", [((1.0, 2.0, 3.0, 4.0), "Zölle")]), "b.png": ("", [])}


def test_a_classifiers_table_in_every_encoding(tmp_path: Path) -> None:
    for name in ("ä.png", "b.png"):
        (tmp_path / name).write_bytes(encode_png(np.zeros((9, 9, 3), np.uint8)))
    (tmp_path / "t.csv").write_bytes("Path;LABEL;Split\nä.png;Zölle;train\nb.png;other;val\n".encode("cp1252"))
    assert [(i.image.name, i.label, i.split) for i in read_items(tmp_path / "t.csv")] == [
        ("ä.png", "Zölle", "train"), ("b.png", "other", "val")
    ]  # fmt: skip


KEYS = (
    "type geometry coordinates properties classification name names data annotations result value x y width images categories "
    "bbox id image_id segmentation category_id features train"
)
VALUES = st.recursive(
    st.none() | st.integers(-9, 200) | st.floats() | st.sampled_from(["cell", "", "Feature", "Polygon", "Point", "a.png"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS.split()), inner, max_size=5),
    max_leaves=15,
)


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(VALUES, st.sampled_from(["a.json", "a.geojson", "data.yaml"]))
def test_odd_files_end_without_a_traceback(tmp_path_factory: pytest.TempPathFactory, content: Any, name: str) -> None:
    folder = tmp_path_factory.mktemp("odd")
    (folder / "a.png").write_bytes(encode_png(np.zeros((9, 9, 3), np.uint8)))
    (folder / name).write_text(json.dumps(content))
    try:
        assert read(DetectorData(boxes=str(folder / name)), ["cell"])
    except PathAsstError as error:
        assert str(error)


BOX = st.lists(st.floats(0, 50) | st.sampled_from(["x", None]), min_size=3, max_size=5)


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.lists(st.tuples(BOX, st.integers(0, 2), st.integers(0, 1)), min_size=1, max_size=6))
def test_boxes_taken_and_left_out_are_those_present(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    folder = tmp_path_factory.mktemp("coco")
    notes = [{"id": n, "bbox": b, "category_id": c, "image_id": i} for n, (b, c, i) in enumerate(rows)]
    content = {"images": [{"id": 0, "file_name": "a.png"}], "categories": [{"id": 1, "name": "cell"}], "annotations": notes}
    (folder / "a.json").write_text(json.dumps(content))
    (folder / "a.png").write_bytes(encode_png(np.zeros((100, 200, 3), np.uint8)))
    with pytest.warns(UserWarning) as warned:
        import warnings

        warnings.warn("so that there is one", stacklevel=1)
        [picture] = read(DetectorData(boxes=str(folder / "a.json")), ["cell"])
    left = [str(w.message).split(": ")[1].split()[0] for w in warned if "left out" in str(w.message)]
    assert len(picture.boxes) + sum(map(int, left)) == len(rows)


VOC = """<annotation><filename>a.png</filename><size><width>200</width><height>100</height></size>
<object><name>cell</name><bndbox><xmin>10</xmin><ymin>20</ymin><xmax>40</xmax><ymax>60</ymax></bndbox></object>
<object><name>cell</name><bndbox><xmin>x</xmin></bndbox></object></annotation>"""
LABELME = {
    "imagePath": "..\\\\images\\\\a.png",
    "imageWidth": 200,
    "imageHeight": 100,
    "shapes": [
        {"label": "cell", "shape_type": "rectangle", "points": [[10, 20], [40, 60]]},
        {"label": "cell", "shape_type": "circle", "points": [[100, 50], [103, 54]]},
        {"label": "cell", "shape_type": "polygon", "points": []},
    ],
}


@pytest.mark.parametrize(("name", "content"), [("a.xml", VOC), ("a.json", json.dumps(LABELME))])
@pytest.mark.parametrize("layout", ["file", "folder beside images"])
def test_one_file_a_picture(folder: Path, name: str, content: str, layout: str) -> None:
    place = folder if layout == "file" else folder / "Annotations"
    place.mkdir(exist_ok=True)
    (place / name).write_text(content)
    if layout != "file":
        (folder / "images").mkdir()
        (folder / "a.png").rename(folder / "images/a.png")
        (place / "broken.xml").write_text("<annotation>")
    with pytest.warns(UserWarning) as warned:
        (labelled,) = read(DetectorData(boxes=str(place / name if layout == "file" else place)), ["cell"])
    assert labelled.boxes.tolist() == [[10, 20, 40, 60], [95, 45, 105, 55]][: 1 + (name == "a.json")]
    assert ("1 whole files" in str(warned[0].message)) == (layout != "file")
    assert "1 without a shape" in str(warned[0].message)


def test_label_studio_without_its_frame_and_with_its_prefix(folder: Path) -> None:
    (folder / "a.png").rename(folder / "0123abcd-a.png")
    value = {
        "x": 5,
        "y": 20,
        "width": 15,
        "height": 40,
        "rectanglelabels": ["cell"],
        "original_width": 200,
        "original_height": 100,
    }
    (folder / "min.json").write_text(json.dumps([{"image": "/data/upload/1/0123abcd-a.png", "id": 1, "label": [value]}]))
    (labelled,) = read(DetectorData(boxes=str(folder / "min.json")), ["cell"])
    assert labelled.boxes.tolist() == [[10, 20, 40, 60]]


def test_a_picture_that_is_missing_costs_itself(folder: Path) -> None:
    image = '<image name="{}.png" width="200" height="100"><points label="cell" points="5,6"/></image>'
    (folder / "c.xml").write_text(f"<annotations>{image.format('a')}{image.format('gone')}</annotations>")
    with pytest.warns(UserWarning, match="1 pictures are left out"):
        (field,) = read_fields(PointData(points=str(folder / "c.xml")), ["cell"])
    assert field.points.tolist() == [[5, 6]]
