"""Membranes drawn by hand are read as they were drawn."""

import numpy as np
import pytest

from pathasst.imaging.stains import STAINS
from pathasst.tools.cells.her2 import grade, score
from pathasst.tools.cells.pdl1 import is_positive
from pathasst.tools.cells.profile import Profiles, doubt, in_nuclei, profile, stain_elsewhere
from pathasst.tools.cells.size import estimate_scale, nuclear_radius


def colour(haematoxylin: float, dab: float) -> tuple[int, int, int]:
    return tuple(int(v) for v in (246 * 10 ** -(haematoxylin * STAINS[0] + dab * STAINS[1])).round())


def cell(share: float, dab: float, radius: int = 12, size: int = 120) -> np.ndarray:
    """One blue nucleus in the middle, with `share` of its membrane stained."""
    import cv2

    image = np.full((size, size, 3), 246, np.uint8)
    c = (size // 2, size // 2)
    if share:
        cv2.ellipse(image, c, (radius + 5, radius + 5), 0, 0, 360 * share, colour(0, dab), 4)
    cv2.circle(image, c, radius, colour(0.4, 0), -1)
    return image


@pytest.mark.parametrize(
    ("share", "dab", "expected"), [(0.0, 0.0, 0), (0.4, 0.35, 1), (1.0, 0.35, 2), (1.0, 1.0, 3), (0.5, 1.0, 2), (0.08, 1.0, 0)]
)
def test_completeness_and_strength_give_the_grade(share, dab, expected):
    found = profile(cell(share, dab), np.array([[60.0, 60.0]]), 12)
    assert abs(found.completeness[0] - share) < 0.12
    assert grade(found).tolist() == [expected]
    assert is_positive(found).tolist() == [share >= 0.2]


def test_brown_inside_the_nucleus_is_told_from_brown_around_it():
    import cv2

    nuclear = np.full((120, 120, 3), 246, np.uint8)
    cv2.circle(nuclear, (60, 60), 12, colour(0.1, 0.8), -1)
    point = np.array([[60.0, 60.0]])
    assert profile(nuclear, point, 12).nucleus[0] > 0.5 > 0.1 > profile(cell(1.0, 0.8), point, 12).nucleus[0]
    assert stain_elsewhere(nuclear, point, 12) < 0.05
    assert stain_elsewhere(nuclear, np.empty((0, 2)), 12) == 1
    assert stain_elsewhere(cell(0, 0), np.empty((0, 2)), 12) == 0


def field(one: np.ndarray, count: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """`count`×`count` times the same cell, and their middles."""
    middles = 120 * np.stack(np.meshgrid(np.arange(count), np.arange(count)), -1).reshape(-1, 2) + 60.0
    return np.tile(one, (count, count, 1)), middles


def test_a_nuclear_stain_is_doubted_where_a_membranous_one_is_asked_for():
    import cv2

    nuclear = np.full((120, 120, 3), 246, np.uint8)
    cv2.circle(nuclear, (60, 60), 16, colour(0.1, 0.8), -1)
    brown, membrane = (in_nuclei(profile(*field(one), 12)) for one in (nuclear, cell(1.0, 0.8)))
    assert brown > 0.9 and any("Ki67" in warning for warning in doubt(brown))
    assert membrane < 0.4 and doubt(membrane) == []
    few = in_nuclei(profile(*field(nuclear, 4), 12))  # 16 cells say too little
    assert few is None and doubt(few) == []


def test_no_cells_no_values():
    found = profile(cell(1, 1), np.empty((0, 2)), 12)
    assert len(found.nucleus) == len(found.membrane) == len(found.completeness) == 0
    assert in_nuclei(found) is None


def test_a_cell_at_the_edge_is_read_without_error():
    found = profile(cell(1, 1), np.array([[0.5, 0.5], [119.5, 119.5]]), 12)
    assert np.isfinite(found.membrane).all()


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"0": 95, "1+": 5, "2+": 0, "3+": 0}, "0"),
        ({"0": 80, "1+": 20, "2+": 0, "3+": 0}, "1+"),
        ({"0": 80, "1+": 0, "2+": 12, "3+": 8}, "2+"),
        ({"0": 90, "1+": 0, "2+": 0, "3+": 10}, "0"),  # exactly 10 % is not more than 10 %
        ({"0": 89, "1+": 0, "2+": 0, "3+": 11}, "3+"),
        ({"0": 0, "1+": 0, "2+": 0, "3+": 0}, None),
    ],
)
def test_the_score_needs_more_than_ten_per_cent(counts, expected):
    assert score(counts) == expected


def test_grades_of_hand_made_profiles():
    profiles = Profiles(np.zeros(4), np.array([0.9, 0.3, 0.3, 0.0]), np.array([0.9, 0.9, 0.3, 0.1]))
    assert grade(profiles).tolist() == [3, 2, 1, 0]


@pytest.mark.parametrize("radius", [6, 10, 18])
def test_the_size_of_nuclei_is_read_from_the_picture(radius):
    import cv2

    rng = np.random.default_rng(0)
    image = np.full((500, 500, 3), 246, np.uint8)
    step = 5 * radius
    for x in range(step, 500 - step, step):
        for y in range(step, 500 - step, step):
            dx, dy = rng.integers(-radius, radius, 2)
            cv2.circle(image, (int(x + dx), int(y + dy)), radius, colour(0.4, 0), -1, cv2.LINE_AA)
    assert nuclear_radius(image) == pytest.approx(radius, rel=0.25)
    assert estimate_scale(image) == pytest.approx(12 / radius, rel=0.3)
    assert estimate_scale(np.full((100, 100, 3), 246, np.uint8)) == 1.0
