from __future__ import annotations

import cv2
import numpy as np
import pytest
from curate_samples import texture

from pathasst.curate.non_micrograph import not_a_micrograph


def chart() -> np.ndarray:
    """Bars in colour over two axes."""
    out = np.full((240, 320, 3), 255, np.uint8)
    cv2.line(out, (40, 20), (40, 200), (0, 0, 0), 1)
    cv2.line(out, (40, 200), (300, 200), (0, 0, 0), 1)
    for n in range(4):
        cv2.rectangle(out, (60 + n * 60, 190 - n * 40), (90 + n * 60, 198), (200, 60, 120), -1)
    return out


def test_charts_and_colourless_pictures_are_told_from_stained_ones():
    tissue = texture(1)
    assert not_a_micrograph(chart()) == "chart"
    assert not_a_micrograph(np.repeat(tissue[..., :1], 3, axis=2)) == "grey"
    assert not_a_micrograph(tissue) == ""


@pytest.mark.parametrize("margin", [10, 60])
def test_tissue_on_white_ground_with_a_scale_bar_is_no_chart(margin):
    sheet = np.full((240 + margin, 320 + margin, 3), 250, np.uint8)
    cv2.ellipse(sheet, (160, 120), (90, 60), 20, 0, 360, (190, 90, 160), -1)
    cv2.line(sheet, (20, 225), (60, 225), (0, 0, 0), 2)
    assert not_a_micrograph(sheet) == ""
