from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial import cKDTree
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


def test_the_edges_of_a_coverslip_are_left_out() -> None:
    image, truth = glass(), disc(400, 230, 200, 80)
    paint(image, truth, PINK)
    cv2.line(image, (0, 40), (399, 55), (165, 165, 168), 2)
    cv2.line(image, (60, 0), (70, 399), (190, 190, 190), 2)
    mask, left_out = tissue_mask(image, 8.0)
    assert agreement(mask, truth) > 0.93 and left_out["lines"] > 0.005


@pytest.mark.parametrize("ink", [(20, 120, 60), (25, 40, 190), (30, 30, 32), (62, 55, 61), (200, 30, 40)])
def test_ink_across_tissue_takes_away_no_tissue_beside_it(ink: tuple[int, int, int]) -> None:
    image, truth = glass(), disc(400, 230, 200, 80)
    paint(image, truth, PINK)
    stroke = np.zeros(truth.shape, np.uint8)
    cv2.line(stroke, (40, 120), (360, 260), 1, 10)
    image[stroke > 0] = ink
    mask, left_out = tissue_mask(image, 8.0)
    beside = cv2.dilate(stroke, np.ones((11, 11), np.uint8)) == 0
    assert mask[truth & beside].mean() > 0.98 and mask[~truth & beside].mean() < 0.01
    assert not mask[(stroke > 0) & ~truth].any() and left_out["pen"] > 0.01


def test_a_ring_of_grey_ink_around_cells_is_no_tissue() -> None:
    image, cells = glass(), np.random.default_rng(2).integers(120, 280, (60, 2))
    cv2.circle(image, (200, 200), 150, (62, 55, 61), 24)
    for x, y in cells.tolist():
        cv2.circle(image, (x, y), 2, VIOLET, -1)
    mask, left_out = tissue_mask(cv2.GaussianBlur(image, (0, 0), 0.8))
    ring = np.zeros(mask.shape, np.uint8)
    cv2.circle(ring, (200, 200), 150, 1, 28)
    assert mask[ring > 0].mean() < 0.02 and left_out["pen"] > 0.1


def fat(image: np.ndarray, where: np.ndarray) -> None:
    """Walls of pale cells, 10 px wide each, on what the picture has."""
    spots = np.random.default_rng(3).uniform(0, len(image), (len(image) ** 2 // 100, 2))
    nearest = cKDTree(spots).query(np.indices(where.shape).reshape(2, -1).T, k=2)[0]
    walls = ((nearest[:, 1] - nearest[:, 0]) < 1.5).reshape(where.shape)
    paint(image, where & walls, (228, 208, 222))


def test_very_pale_fat_is_tissue() -> None:
    image, truth = glass(), disc(400, 250, 250, 110)
    rows, columns = np.mgrid[:400, :400]
    haze = np.exp(-((rows - 80) ** 2 + (columns - 80) ** 2) / 4000)[..., None] * [4, 10, 5]
    image = np.clip(image - haze, 0, 255).astype(np.uint8)
    fat(image, truth)
    mask, _ = tissue_mask(cv2.GaussianBlur(image, (0, 0), 0.7), 8.0)
    assert mask[truth].mean() > 0.75  # 0.80; without averages and closed cells about 0.3


def test_stain_left_on_the_glass_is_no_tissue() -> None:
    image, truth = glass(), disc(400, 250, 250, 110)
    rows, columns = np.mgrid[:400, :400]
    haze = np.exp(-((rows - 80) ** 2 + (columns - 80) ** 2) / 4000)[..., None] * [4, 10, 5]
    image = np.clip(image - haze, 0, 255).astype(np.uint8)
    paint(image, truth, VIOLET)
    assert agreement(tissue_mask(image, 8.0)[0], truth) > 0.93


def test_padding_and_uneven_light_do_not_move_the_border() -> None:
    image, truth = glass(), disc(400, 130, 200, 100)
    paint(image, truth, PINK)
    rows, columns = np.mgrid[:400, :400]
    light = 1 - 0.1 * ((rows - 200) ** 2 + (columns - 200) ** 2) / 80_000
    image = np.clip(image * light[..., None], 0, 255).astype(np.uint8)
    image[:, :70], image[340:] = 0, 0  # over the tissue's edge
    truth[:, :70], truth[340:] = False, False
    assert agreement(tissue_mask(image, 8.0)[0], truth) > 0.93


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
