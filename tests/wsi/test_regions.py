from __future__ import annotations

import json
from pathlib import Path

import pytest

from pathasst.core.errors import BadInput
from pathasst.imaging.geojson import box_geometry
from pathasst.imaging.slides import open_slide
from pathasst.wsi.objects import SlideObject
from pathasst.wsi.regions import Regions


def test_regions_keep_what_lies_inside_and_name_what_was_left_out(spots_slide: Path, tmp_path: Path) -> None:
    line = {"type": "LineString", "coordinates": [[0, 0], [9, 9]]}
    (tmp_path / "in.geojson").write_text(json.dumps([box_geometry(0, 0, 100, 100), line]))
    (tmp_path / "out.geojson").write_text(json.dumps(box_geometry(0, 0, 50, 100)))
    with open_slide(spots_slide, 0.5) as slide:
        regions = Regions.read(slide, tmp_path / "in.geojson", str(tmp_path / "out.geojson"))
    places = [(20.0, 50.0), (70.0, 50.0), (150.0, 50.0)]
    kept = regions.keep([SlideObject(label="a", score=1.0, x=x, y=y) for x, y in places])
    assert [(o.x, o.y) for o in kept] == [(70.0, 50.0)]
    assert regions.notes == ["Of in.geojson was left out: 1 × lines."]


def test_areas_beside_the_slide_are_refused_with_their_place(spots_slide: Path, tmp_path: Path) -> None:
    (tmp_path / "far.geojson").write_text(json.dumps(box_geometry(90_000, 0, 91_000, 1_000)))
    with open_slide(spots_slide, 0.5) as slide, pytest.raises(BadInput, match=r"90000, 0, 91000, 1000\) lie outside"):
        Regions.read(slide, tmp_path / "far.geojson", None)
