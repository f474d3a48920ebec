"""The nuclei tool: counts, sizes and outlines that agree with each other, on a drawn section and on a real one."""

import cv2
import numpy as np
import pytest

import pathasst
from pathasst.core import weights
from pathasst.core.records import ToolCall
from pathasst.imaging import rle
from pathasst.imaging.pictures import load, read_labels
from pathasst.nn.nuclei.infer import Nuclei
from pathasst.tools import he_nuclei
from pathasst.tools.registry import default_registry

needs_weights = pytest.mark.skipif(not weights.present("nuclei-embedded"), reason="the weights are not here")


def section(side: int = 256) -> tuple[np.ndarray, int]:
    """Violet ellipses with a paler middle on pink fibres, as an H&E at 40× has them."""
    rng = np.random.default_rng(4)
    image = np.full((side, side, 3), (228, 172, 204), np.float32) + rng.normal(0, 6, (side, side, 1))
    n = 0
    for x in range(24, side - 16, 44):
        for y in range(24, side - 16, 44):
            centre, axes = (x + int(rng.integers(-5, 5)), y + int(rng.integers(-5, 5))), (13, 10)
            cv2.ellipse(image, centre, axes, float(rng.integers(0, 180)), 0, 360, (104, 66, 150), -1, cv2.LINE_AA)
            cv2.ellipse(image, centre, (7, 5), 0, 0, 360, (128, 90, 172), -1, cv2.LINE_AA)
            n += 1
    return cv2.GaussianBlur(np.clip(image, 0, 255).astype(np.uint8), (0, 0), 1.0), n


@needs_weights
def test_nuclei_are_counted_measured_and_outlined():
    image, n = section()
    result = default_registry().call(ToolCall(name="he_nuclei", arguments={"um_per_px": 0.25}), image)
    assert not result.error and result.version.startswith("nuclei-embedded@")
    numbers = result.numbers
    assert abs(numbers["nuclei"] - n) <= 0.4 * n and numbers["nuclei"] == len(result.annotations)
    assert numbers["nuclei_per_mm2"] == pytest.approx(numbers["nuclei"] / (256 * 256 * 0.0625e-6), rel=0.01)
    assert numbers["median_area_um2"] == pytest.approx(np.pi * 13 * 10 / 16, rel=0.5)
    assert f"{numbers['nuclei']} nuclei" in result.text and "µm²" in result.text
    whole = sum(rle.decode(a.rle, 256, 256) for a in result.annotations)
    assert whole.max() == 1, "no pixel is of two nuclei"
    assert 100 * whole.mean() == pytest.approx(numbers["covered_percent"], abs=0.01)
    drawn = load(result.pictures[0].image)
    assert drawn.shape[1] == 512 and drawn.shape[0] > 512


@needs_weights
def test_without_a_scale_no_micrometres_are_stated():
    image, _ = section()
    result = pathasst.tools.he_nuclei(image)
    assert result.numbers["median_area_um2"] is None and result.numbers["nuclei_per_mm2"] is None
    assert result.numbers["median_area_px"] > 0 and "only with the scale" in result.text
    polygons = [f["geometry"]["type"] for f in result.geojson()["features"]]
    assert polygons and set(polygons) <= {"Polygon", "MultiPolygon"}
    assert len(result.objects) == len(polygons) and result.objects.mask.shape[1:] == (256, 256)


def test_nuclei_that_the_edge_cuts_are_counted_and_not_measured():
    labels = np.zeros((60, 80), np.int32)
    labels[0:6, 10:20], labels[30:40, 30:40], labels[20:26, 70:80] = 1, 2, 3
    marks = he_nuclei.marks(Nuclei(labels, np.array([0.9, 0.8, 0.4], np.float32), 1.0), min_score=0.5)
    assert [m.coordinates for m in marks] == [[10, 0, 20, 6], [30, 30, 40, 40]]
    areas = he_nuclei.whole_areas(marks, (60, 80))
    numbers = he_nuclei.measured(marks, areas, np.zeros((60, 80, 3), np.uint8), 0.5)
    assert areas.tolist() == [100] and numbers["nuclei"] == 2 and numbers["median_area_um2"] == 25.0
    nothing = he_nuclei.measured([], np.empty(0), np.zeros((60, 80, 3), np.uint8), 0.5)
    assert nothing["nuclei"] == 0 and "No nuclei" in he_nuclei.text(nothing)


@needs_weights
def test_a_blood_smear_is_declined(real_data, monkeypatch):
    monkeypatch.setenv("PATHASST_GUARD", "on")
    smear = load(sorted((real_data / "bccd" / "images").iterdir())[0])
    result = default_registry().call(ToolCall(name="he_nuclei"), smear)
    assert "blood smear" in result.error and not result.annotations


@needs_weights
def test_real_nuclei_are_found(real_data, monkeypatch):
    """A colon of CoNSeP and a field of MoNuSeg: the count is of the right size, most outlines are at a nucleus."""
    monkeypatch.setenv("PATHASST_GUARD", "on")
    for source in ("nuclei_monuseg", "nuclei_consep"):
        picture = sorted((real_data / source / "images").iterdir())[0]
        image, truth = load(picture)[:512, :512], read_labels(real_data / source / "masks" / f"{picture.stem}.png")[:512, :512]
        result = default_registry().call(ToolCall(name="he_nuclei", arguments={"um_per_px": 0.25}), image)
        there = len(np.unique(truth)) - 1
        assert not result.error and 0.5 * there < result.numbers["nuclei"] < 2 * there
        own = sum(rle.decode(a.rle, *truth.shape) for a in result.annotations) > 0
        assert (own & (truth > 0)).sum() / own.sum() > 0.6
