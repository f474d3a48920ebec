"""The zoom tool: which pixels it gives, and which boxes it refuses in words that a model can act on."""

from __future__ import annotations

import numpy as np
import pytest

from pathasst.core.records import ToolCall
from pathasst.imaging.pictures import load
from pathasst.tools.zoom import Zoom

PICTURE = np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)


def zoom(box):
    return Zoom()(ToolCall(name="zoom", arguments={"box": box}, id="7"), PICTURE)


def test_the_region_has_the_pictures_own_pixels():
    result = zoom([0.25, 0.5, 0.75, 1])
    assert not result.error and result.notice == ""
    (region,) = result.pictures
    assert region.region == [100, 150, 300, 300] == result.numbers["box_px"]
    assert np.array_equal(load(region.image), PICTURE[150:300, 100:300])
    assert "x 100 to 300 and y 150 to 300 px" in result.text


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ([0.5, 0.5, 0.55, 0.9], "is 20×120 px of 400×300 px"),
        ([0.9, 0.1, 0.2, 0.9], "left < right"),
        ([10, 20, 300, 200], "less than or equal to 1"),
        ([0.1, 0.2, 0.3], "box.3: Field required"),
    ],
)
def test_a_box_without_a_region_is_refused_with_what_to_give(box, reason):
    result = zoom(box)
    assert reason in result.error and not result.pictures
