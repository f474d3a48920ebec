"""The cervical cell tool: boxes on a real field, honest words, wrong pictures."""

from pathlib import Path

import numpy as np
import pytest

from pathasst.core.records import ToolCall
from pathasst.imaging.pictures import load
from pathasst.tools.lbc_classify import BETHESDA
from pathasst.tools.lbc_detect import LbcDetect, _text

pytestmark = pytest.mark.skipif(bool(LbcDetect.missing()), reason="the weights lbc-detect-embedded are not here")


def run(image, **arguments):
    return LbcDetect()(ToolCall(name="lbc_detect", arguments=arguments), image)


@pytest.mark.real
def test_a_real_field_gets_boxes_of_abnormal_cells(real_data: Path):
    field = next(p for p in sorted((real_data / "cric/images").iterdir()) if p.name.startswith("6bb20c67"))  # high-grade cells
    image = load(field)
    result = run(image, um_per_px=0.25)
    assert not result.error
    assert result.numbers["cells"] == len(result.annotations) > 3
    assert {a.label for a in result.annotations} == {"abnormal"}  # the class would be a guess
    assert not set(BETHESDA) & set(result.numbers)
    assert result.numbers["cells_per_mm2"] > 0
    assert "conventional" in result.text
    assert len(run(image, min_score=0.9).annotations) < len(result.annotations)


@pytest.mark.parametrize(
    ("image", "says"),
    [(np.full((200, 200, 3), 128, np.uint8), "grey"), (np.zeros((200, 200, 3), np.uint8), "dark"), (None, "needs a picture")],
)
def test_wrong_pictures_get_a_reason(image, says):
    assert says in run(image).error


def test_nothing_found_is_no_all_clear():
    text = _text({"cells": 0, "cells_per_mm2": None}, {})
    assert "does not exclude" in text


def test_one_cell_is_one_cell():
    text = _text({"cells": 1, "cells_per_mm2": 12.0}, {"LSIL": 1, "HSIL": 0})
    assert text.startswith("1 abnormal cell: 1 LSIL. Density 12 cells/mm².")
