from __future__ import annotations

import numpy as np
import pytest
from curate_samples import compound, texture

from pathasst.curate.edge_split import SeamSettings, seam
from pathasst.curate.panels import CutDetector
from pathasst.imaging.boxes import iou

TINTS = ((190, 120, 170), (120, 150, 200), (200, 190, 120), (150, 200, 150))


def touching(count: int = 4) -> np.ndarray:
    parts = [texture(n, tint=t) for n, t in enumerate(TINTS[:count])]
    return np.vstack([np.hstack(parts[:2]), np.hstack(parts[2:])]) if count == 4 else np.hstack(parts)


def test_the_seam_of_two_pictures_is_found_to_the_pixel():
    at, contrast = seam(touching(2), 60, SeamSettings())
    assert at == 260
    assert contrast > SeamSettings().contrast


@pytest.mark.parametrize("least", [60, 270])
def test_one_picture_has_no_seam_and_none_lies_closer_to_the_edge_than_a_panel_is_wide(least):
    whole = texture(1, 200, 520) if least == 60 else touching(2)
    assert seam(whole, least, SeamSettings()) == (0, 0.0)


def test_the_edges_of_a_drawing_are_no_seams():
    table = np.full((200, 520, 3), 255, np.uint8)
    table[:, 130:260] = (40, 80, 160)
    table[:, 260:390] = (160, 80, 40)
    assert seam(table, 60, SeamSettings()) == (0, 0.0)


def test_pictures_that_touch_are_parted_where_the_caption_names_them():
    sheet = touching()
    assert len(CutDetector().cut(sheet)[0]) == 1
    panels, _ = CutDetector().cut(sheet, named=4)
    wanted = [(0, 0, 260, 200), (260, 0, 520, 200), (0, 200, 260, 400), (260, 200, 520, 400)]
    assert all(iou(p.box, w) > 0.95 for p, w in zip(panels, wanted, strict=True))


def test_no_more_are_parted_than_the_caption_names():
    sheet = touching()
    assert len(CutDetector().cut(sheet, named=2)[0]) == 2
    apart = compound([texture(n) for n in range(4)], 2)
    assert CutDetector().cut(apart, named=9)[0] == CutDetector().cut(apart)[0]


def test_pictures_on_grey_ground_are_parted_too():
    sheet = np.full((200, 560, 3), 128, np.uint8)
    sheet[:, :260], sheet[:, 300:] = texture(1), texture(2, tint=TINTS[1])
    panels, _ = CutDetector().cut(sheet, named=2)
    assert [iou(p.box, w) > 0.8 for p, w in zip(panels, ((0, 0, 260, 200), (300, 0, 560, 200)), strict=True)] == [True, True]
