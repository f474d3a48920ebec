from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from shapely.geometry import Polygon, box

from pathasst.imaging.outlines import outlines_of
from pathasst.imaging.pictures import load
from pathasst.imaging.slides.tissue import Tissue, tissue_mask

PINK, VIOLET, BROWN = (226, 170, 205), (150, 100, 170), (150, 100, 60)


def glass(side: int = 400, colour: tuple[int, int, int] = (242, 241, 243)) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 2, (side, side, 3))
    return np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)


def paint(image: np.ndarray, where: np.ndarray, colour: tuple[int, int, int]) -> None:
    noise = np.random.default_rng(1).normal(0, 8, (*image.shape[:2], 1))
    image[where] = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)[where]


def disc(side: int, x: int, y: int, radius: int) -> np.ndarray:
    rows, columns = np.mgrid[:side, :side]
    return (columns - x) ** 2 + (rows - y) ** 2 < radius**2


def agreement(mask: np.ndarray, truth: np.ndarray) -> float:
    return float((mask & truth).sum() / (mask | truth).sum())


@pytest.mark.parametrize("colour", [PINK, VIOLET, BROWN, (40, 60, 160)])
@pytest.mark.parametrize("light", [(242, 241, 243), (225, 228, 236), (250, 245, 230)])
def test_tissue_of_any_stain_on_any_glass(colour: tuple[int, int, int], light: tuple[int, int, int]) -> None:
    image, truth = glass(colour=light), disc(400, 180, 220, 90)
    paint(image, truth, colour)
    assert agreement(tissue_mask(image, 8.0)[0], truth) > 0.93


def test_pen_padding_scan_border_and_dust_are_left_out() -> None:
    image, truth = glass(), disc(400, 250, 200, 80)
    paint(image, truth, PINK)
    for colour, y in (((20, 120, 60), 40), ((25, 40, 190), 70), ((30, 30, 32), 100)):
        cv2.line(image, (110, y), (240, y - 10), colour, 8)
    image[:, :60] = 0  # black padding
    image[-4:, 60:] = (40, 160, 90)  # the border of the scan
    image[350:352, 200:202] = (90, 60, 90)  # a speck of dust
    mask, left_out = tissue_mask(image, 8.0)
    assert agreement(mask, truth) > 0.93
    assert left_out["black padding"] == pytest.approx(0.15, abs=0.01) and left_out["pen"] > 0.01


def test_a_blank_slide_has_no_tissue() -> None:
    assert not tissue_mask(glass(), 8.0)[0].any()
    assert not tissue_mask(np.zeros((50, 60, 3), np.uint8))[0].any()


def test_outlines_follow_the_edges_of_px_and_have_holes() -> None:
    mask = np.zeros((30, 40), bool)
    mask[5:20, 6:30] = True
    mask[10:14, 12:20] = False
    (polygon,) = outlines_of(mask).geoms
    assert polygon.bounds == (6.0, 5.0, 30.0, 20.0) and polygon.area == mask.sum()
    assert len(polygon.interiors) == 1
    assert outlines_of(np.zeros((5, 5), bool)).is_empty
    noise = np.random.default_rng(0).random((60, 60)) > 0.5
    shapes = outlines_of(noise)
    assert shapes.is_valid and shapes.area == pytest.approx(noise.sum(), rel=0.15)


def test_shares_and_regions_are_in_px_of_the_finest_level() -> None:
    mask = np.zeros((50, 100), bool)
    mask[:, :40] = True
    tissue = Tissue(mask, (10.0, 10.0))
    boxes = np.array([[0, 0, 400, 500], [200, 0, 600, 500], [600, 0, 1000, 500]], float)
    assert tissue.shares(boxes).tolist() == [1.0, 0.5, 0.0]
    assert tissue.area_mm2(0.5) == pytest.approx(400 * 500 * 0.25e-6)
    inside = tissue.within(box(0, 0, 200, 500), Polygon([(0, 0), (200, 0), (200, 100), (0, 100)]))
    assert abs(int(inside.mask.sum()) - 20 * 40) <= 60
    assert tissue.outlines().bounds == (0.0, 0.0, 400.0, 500.0)


@pytest.mark.real
def test_half_of_the_overviews_are_glass_and_no_stain_is_lost(real_data: Path) -> None:
    files = sorted((real_data / "slide_atlas" / "overviews").glob("*.jpg"))
    chosen = {*files[::6], *(p for p in files if p.stem.startswith("helicobacterpylori__"))}
    shares = {p.stem: tissue_mask(load(p))[0].mean() for p in chosen}
    histology = {name: share for name, share in shares.items() if not name.startswith("CSF")}
    assert all(0.02 < share < 0.9 for share in histology.values()), histology
    assert shares["helicobacterpylori__giemsa"] > 0.3  # as blue as ink
