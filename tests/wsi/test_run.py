from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree
from spots import MPP, Spots, places, settings

from pathasst.core.errors import BadInput, BadSettings
from pathasst.imaging.slides import open_slide
from pathasst.tools.registry import make
from pathasst.wsi.run import SlideRun, run_slide

FILES = ("objects.geojson", "cells.csv", "cells.parquet", "summary.json", "tissue.geojson", "density.png", "overview.jpg")


@pytest.fixture(scope="module")
def finished(spots_slide: Path, tmp_path_factory: pytest.TempPathFactory) -> SlideRun:
    with open_slide(spots_slide) as slide:
        return run_slide(slide, Spots(), tmp_path_factory.mktemp("run"), settings(), progress=False)


def test_every_spot_is_found_once_where_it_lies(finished: SlideRun) -> None:
    middles, brown = places()
    objects = list(finished.objects())
    assert len(objects) == len(middles) == finished.summary["objects"]
    found = np.array([(o.x, o.y) for o in objects])
    distance, which = cKDTree(found).query(middles)
    assert distance.max() < 1.5 and len(set(which)) == len(middles)
    assert [objects[i].label == "positive" for i in which] == brown.tolist()


def test_the_files_are_those_that_qupath_and_a_spreadsheet_open(finished: SlideRun) -> None:
    collection = json.loads(finished.geojson.read_text(encoding="utf-8"))
    assert collection["type"] == "FeatureCollection" and len(collection["features"]) == 400
    first = collection["features"][0]
    assert first["geometry"]["type"] == "Point" and first["properties"]["objectType"] == "detection"
    assert first["properties"]["classification"].keys() == {"name", "color"} and first["properties"]["isLocked"] is False
    assert len({uuid.UUID(f["id"]) for f in collection["features"]}) == 400
    with (finished.folder / "cells.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 400
    assert [float(rows[0][k]) for k in ("x_px", "y_px")] == first["geometry"]["coordinates"]
    assert float(rows[0]["x_um"]) == pytest.approx(float(rows[0]["x_px"]) * MPP, abs=0.01)
    report = finished.report.read_text(encoding="utf-8")
    assert "Ki67 index" in report and "Research use only" in report
    assert "http://" not in report and "https://" not in report


def test_the_index_has_an_interval_and_hot_spots_lie_where_the_brown_is(finished: SlideRun) -> None:
    middles, brown = places()
    score = finished.summary["score"]
    assert score["value"] == pytest.approx(100 * brown.mean(), abs=0.01)
    assert score["low"] < score["value"] < score["high"]
    spots = finished.summary["hot_spots"]
    assert spots and all(spot["x"] < 1400 for spot in spots[:1])
    for spot in spots:
        inside = ((middles - [spot["x"], spot["y"]]) ** 2).sum(1) < spot["radius_px"] ** 2
        assert abs(spot["cells"] - inside.sum()) <= 1
        assert spot["low"] < spot["percent"] < spot["high"]
    assert not any(
        np.hypot(a["x"] - b["x"], a["y"] - b["y"]) < a["radius_px"] + b["radius_px"] - 60
        for n, a in enumerate(spots)
        for b in spots[:n]
    )


def test_a_hot_spot_of_so_many_cells(spots_slide: Path, tmp_path: Path) -> None:
    with open_slide(spots_slide) as slide:
        run = run_slide(slide, Spots(), tmp_path, settings(hotspot_cells=40), progress=False)
    assert [spot["cells"] for spot in run.summary["hot_spots"]] == [40] * len(run.summary["hot_spots"])


def test_killed_and_started_again_it_writes_the_same_files(finished: SlideRun, spots_slide: Path, tmp_path: Path) -> None:
    script = Path(__file__).with_name("spots.py")
    child = subprocess.Popen([sys.executable, str(script), str(spots_slide), str(tmp_path), "0.3"])
    try:
        while len(list((tmp_path / "tiles").glob("*.json"))) < 2:
            assert child.poll() is None, "the child ended before it could be killed"
            time.sleep(0.05)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert not (tmp_path / "summary.json").exists()
    earlier = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "tiles").glob("*.parquet")}
    with open_slide(spots_slide) as slide:
        run_slide(slide, Spots(), tmp_path, settings(), progress=False)
    assert all((tmp_path / "tiles" / name).stat().st_mtime_ns == changed for name, changed in earlier.items())
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (finished.folder / name).read_bytes(), name


def test_only_inside_of_what_was_drawn(spots_slide: Path, tmp_path: Path) -> None:
    inside, hole = tmp_path / "in.geojson", tmp_path / "out.geojson"
    ring = [[500.0, 600.0], [1500.0, 600.0], [1500.0, 1600.0], [500.0, 1600.0], [500.0, 600.0]]
    cut = [[900.0, 900.0], [1200.0, 900.0], [1200.0, 1200.0], [900.0, 1200.0], [900.0, 900.0]]
    for file, corners in ((inside, ring), (hole, cut)):
        area = {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [corners]},
            "properties": {"objectType": "annotation"},
        }
        file.write_text(json.dumps({"type": "FeatureCollection", "features": [area]}), encoding="utf-8")
    with open_slide(spots_slide) as slide:
        run = run_slide(slide, Spots(), tmp_path / "run", settings(include=str(inside), exclude=str(hole)), progress=False)
    middles, _ = places()
    x, y = middles.T
    wanted = (x > 500) & (x < 1500) & (y > 600) & (y < 1600) & ~((x > 900) & (x < 1200) & (y > 900) & (y < 1200))
    assert abs(run.summary["objects"] - int(wanted.sum())) <= 1
    assert run.summary["tiles"]["planned"] < 16


def test_what_cannot_be_run_is_said_before_anything_starts(spots_slide: Path, tmp_path: Path) -> None:
    import tifffile

    blank = tmp_path / "blank.tif"
    tifffile.imwrite(blank, np.full((600, 600, 3), 244, np.uint8), photometric="rgb", tile=(256, 256), metadata=None)
    with open_slide(blank) as slide, pytest.raises(BadInput, match="--mpp"):
        run_slide(slide, Spots(), tmp_path / "a", settings(), progress=False)
    with open_slide(blank, 0.5) as slide, pytest.raises(BadInput, match="no tissue"):
        run_slide(slide, Spots(), tmp_path / "b", settings(), progress=False)
    with open_slide(spots_slide) as slide, pytest.raises(BadSettings, match="whole slide"):
        run_slide(slide, make("papers_search"), tmp_path / "c", settings(), progress=False)
    assert not any((tmp_path / name).exists() for name in "abc")
