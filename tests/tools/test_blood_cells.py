"""The blood cell tool: counts on real smears, scale, types of white cells, wrong pictures, own weights."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from pathasst.core import weights
from pathasst.core.records import NOTICE, ToolCall
from pathasst.imaging.pictures import load
from pathasst.nn.detector.boxes import Boxes
from pathasst.tools.blood_cells import TYPES, BloodCells, _text, crop, range_of

pytestmark = pytest.mark.skipif(bool(BloodCells.missing()), reason="the weights blood-embedded are not here")


@pytest.fixture(scope="module")
def tool() -> BloodCells:
    return BloodCells()


@pytest.fixture(scope="module")
def smear(real_data: Path) -> tuple[np.ndarray, dict[str, int]]:
    """A field of BCCD's validation split, and what is labelled on it."""
    name = "images/BloodImage_00000.jpg"
    with (real_data / "bccd/boxes.csv").open() as file:
        labels = [r["label"] for r in csv.DictReader(file) if r["image"] == name]
    return load(real_data / "bccd" / name), {k: labels.count(k) for k in ("WBC", "RBC", "Platelets")}


def run(tool, image, **arguments):
    return tool(ToolCall(name="blood_cells", arguments=arguments), image)


@pytest.mark.real
def test_a_real_smear_is_counted_with_boxes_text_and_picture(tool, smear):
    image, labelled = smear
    result = run(tool, image)
    assert not result.error
    assert result.numbers["WBC"] == labelled["WBC"]
    assert abs(result.numbers["RBC"] - labelled["RBC"]) <= 8  # 3 on the mean of pictures; this one has many that its edge cuts
    assert result.numbers["cells"] == len(result.annotations)
    low, high = result.numbers["RBC_range"]
    assert low <= result.numbers["RBC"] <= high and low <= labelled["RBC"] <= high
    assert "white blood cell" in result.text
    assert result.notice == NOTICE
    assert result.version.startswith("blood-embedded@")
    shown = load(result.pictures[0].image)
    assert shown.shape[1] == image.shape[1]
    for a in result.annotations:
        x1, y1, x2, y2 = a.coordinates
        assert 0 <= x1 < x2 <= image.shape[1]
        assert 0 <= y1 < y2 <= image.shape[0]


@pytest.mark.real
def test_an_enlarged_smear_gives_the_same_counts_and_a_scale_the_density(tool, smear):
    image, labelled = smear
    large = cv2.resize(image, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    found = run(tool, large).numbers
    assert found["WBC"] == labelled["WBC"]
    assert abs(found["RBC"] - run(tool, image).numbers["RBC"]) <= 4
    scaled = run(tool, image, um_per_px=tool.detector.settings.um_per_px)
    area = image.shape[0] * image.shape[1] * tool.detector.settings.um_per_px**2 * 1e-6
    assert scaled.numbers["RBC_per_mm2"] == pytest.approx(scaled.numbers["RBC"] / area, rel=1e-3)
    assert "Per mm²" in scaled.text


@pytest.mark.real
def test_a_mosaic_of_fields_is_looked_at_in_tiles(tool, smear):
    image, labelled = smear
    many = np.tile(image, (3, 3, 1))
    found = run(tool, many, um_per_px=tool.detector.settings.um_per_px).numbers
    assert found["WBC"] == pytest.approx(9 * labelled["WBC"], abs=5)  # cells cut by the seams may count twice
    assert found["RBC"] == pytest.approx(9 * run(tool, image).numbers["RBC"], rel=0.25)


@pytest.mark.real
def test_white_cells_of_a_laboratory_that_taught_no_types_are_counted_and_not_typed(tool, smear):
    image, labelled = smear
    result = run(tool, image, white_cell_types=True)
    if TYPES in weights.registry() and weights.present(TYPES):
        typed = sum((result.numbers["white_cell_types"] or {}).values())
        assert typed + result.numbers["white_cells_not_typed"] == result.numbers["WBC"] == labelled["WBC"]
        assert sum(a.label.startswith("WBC ") for a in result.annotations) == typed
        assert bool(result.warnings) == bool(result.numbers["white_cells_not_typed"])
    else:
        assert TYPES in result.warnings[0]


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (np.full((200, 200, 3), 128, np.uint8), "grey"),
        (np.zeros((200, 200, 3), np.uint8), "dark"),
        (np.full((10, 10, 3), (200, 100, 150), np.uint8), "at least"),
        (np.zeros((200, 200), np.uint8), "H×W×3"),
        (None, "needs a picture"),
    ],
)
def test_wrong_pictures_get_a_reason(tool, image, says):
    assert says in run(tool, image).error


def test_an_empty_slide_has_no_cells(tool):
    rng = np.random.default_rng(0)
    image = np.clip(rng.normal((228, 205, 222), 3, (240, 320, 3)), 0, 255).astype(np.uint8)
    assert run(tool, image, min_score=0.6).numbers["cells"] == 0


def test_wrong_arguments_are_refused(tool):
    assert "min_score" in run(tool, np.zeros((99, 99, 3), np.uint8), min_score=3).error


def test_a_crop_is_square_and_goes_on_beyond_the_edge():
    image = np.arange(60, dtype=np.uint8).repeat(40).reshape(60, 40, 1).repeat(3, 2)
    cut = crop(image, np.array([-2.0, 50.0, 18.0, 60.0]))
    assert cut.shape == (22, 22, 3)
    assert cut[0, 0, 0] == 44
    assert cut[-1, 0, 0] == 59


def test_the_text_counts_in_plain_words():
    numbers: dict = {"cells": 4, "WBC": 1, "RBC": 2, "Platelets": 1, "WBC_per_mm2": None, "RBC_per_mm2": None}
    text = _text(numbers | {"Platelets_per_mm2": None, "white_cell_types": {"neutrophil": 1}})
    assert text == "1 white blood cell (1 neutrophil), 2 red blood cells, 1 platelet."
    assert "In doubt, by the scores: 1–5 red blood cells." in _text(
        numbers | {"Platelets_per_mm2": None, "white_cell_types": None, "RBC_range": [1, 5]}
    )


def test_a_count_comes_with_the_range_that_its_scores_leave_open():
    scores = np.array([0.9, 0.75, 0.6, 0.45, 0.3, 0.2], np.float32)
    boxes = Boxes(np.zeros((6, 4), np.float32), scores, np.array([1, 1, 1, 1, 1, 1]))
    assert range_of(boxes, 3, 1) == [2, 5]
    assert range_of(boxes, 0, 0) == [0, 0]
