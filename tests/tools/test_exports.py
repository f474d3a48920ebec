from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from pathasst.core.records import Annotation, ToolResult
from pathasst.imaging import rle
from pathasst.imaging.pictures import encode_png
from pathasst.tools.exports import write_coco, write_geojson

MASK = np.zeros((60, 80), bool)
MASK[10:20, 30:50] = True
MARKS = [
    Annotation(kind="point", label="positive", coordinates=[5.5, 6.5], score=0.8),
    Annotation(kind="box", label="WBC", coordinates=[1.0, 2.0, 11.0, 22.0]),
    Annotation(kind="mask", label="object", coordinates=[30.0, 10.0, 50.0, 20.0], rle=rle.encode(MASK)),
]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "field.png"
    path.write_bytes(encode_png(np.full((60, 80, 3), 200, np.uint8)))
    return path


def test_coco_is_read_by_its_own_library(picture: Path, tmp_path: Path) -> None:
    write_coco(ToolResult(name="t", annotations=MARKS), picture, tmp_path / "coco.json")
    coco = COCO(str(tmp_path / "coco.json"))
    assert coco.loadImgs([1])[0]["width"] == 80
    point, box, mask = coco.loadAnns([1, 2, 3])
    assert box["bbox"] == [1.0, 2.0, 10.0, 20.0] and point["keypoints"] == [5.5, 6.5, 2]
    assert mask["area"] == 200 and np.array_equal(coco.annToMask(mask).astype(bool), MASK)
    assert [c["name"] for c in coco.loadCats([1, 2, 3])] == ["positive", "WBC", "object"]


def test_geojson_of_a_picture_and_of_a_region(picture: Path, tmp_path: Path) -> None:
    write_geojson(ToolResult(name="t", annotations=MARKS), picture, tmp_path / "a.geojson")
    first, _, gland = json.loads((tmp_path / "a.geojson").read_text())["features"]
    assert first["geometry"]["coordinates"] == [5.5, 6.5] and gland["geometry"]["type"] == "Polygon"
    numbers = {"region": [1000, 2000, 80, 60], "level": 0}
    write_geojson(ToolResult(name="t", annotations=MARKS, numbers=numbers), picture, tmp_path / "b.geojson")
    moved, _, gland = json.loads((tmp_path / "b.geojson").read_text())["features"]
    assert moved["geometry"]["coordinates"] == [1005.5, 2006.5]
    assert np.array(gland["geometry"]["coordinates"][0]).min(0).tolist() == [1030.0, 2010.0]
