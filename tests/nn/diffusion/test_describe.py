"""What is measured on drawn cells is what was drawn, and the words follow from it."""

import cv2
import numpy as np
import pytest

from pathasst.nn.diffusion.describe import Attributes, GradeLimits, Measures, attributes, measure, words


def cell(radius: int = 10, dark: int = 60, halo: bool = False, spiky: bool = False) -> np.ndarray:
    image = np.full((84, 84, 3), (205, 180, 200), np.uint8)
    if halo:
        cv2.circle(image, (42, 42), int(radius * 1.7), (245, 240, 245), -1)
    cv2.circle(image, (42, 42), radius, (dark, dark // 2, dark + 30), -1, cv2.LINE_AA)
    if spiky:
        for angle in range(0, 360, 60):
            end = (int(42 + 2 * radius * np.cos(np.radians(angle))), int(42 + 2 * radius * np.sin(np.radians(angle))))
            cv2.line(image, (42, 42), end, (dark, dark // 2, dark + 30), 4)
    return image


def test_area_darkness_outline_and_halo_are_seen():
    plain = measure(cell())
    assert plain.area == pytest.approx(np.pi * 100 / 84**2, rel=0.25)
    assert measure(cell(16)).area > 1.9 * plain.area
    assert measure(cell(dark=20)).darkness > plain.darkness + 0.1
    assert measure(cell(spiky=True)).irregularity > plain.irregularity + 0.15
    assert measure(cell(halo=True)).halo > plain.halo + 0.03


def test_a_crop_without_a_nucleus_says_nothing():
    assert measure(np.full((84, 84, 3), (205, 180, 200), np.uint8)) is None
    limits = GradeLimits(0.04, 0.3, 0.1, 0.2, 0.05)
    assert attributes("LSIL", None, limits) == Attributes("LSIL")


def test_words_follow_the_limits():
    limits = GradeLimits(normal_area=0.04, dark=0.3, pale=0.1, irregular=0.2, halo=0.05)
    said = attributes("HSIL", Measures(area=0.1, darkness=0.4, irregularity=0.3, halo=0.0), limits)
    assert said == Attributes("HSIL", 2.5, True, True, False)
    assert words(said) == "HSIL cell with enlarged nucleus, dark nucleus, irregular nucleus"
    assert words(Attributes("NILM")) == "NILM cell"
    assert "normal-sized" in words(Attributes("NILM", 1.0, dark=False)) and "pale" in words(Attributes("NILM", 1.0, dark=False))


def test_wordings_vary_and_the_class_is_never_left_out():
    rng = np.random.default_rng(0)
    full = Attributes("LSIL", 2.5, True, True, True)
    assert len({words(full, rng) for _ in range(40)}) > 10
    thinned = [full.without(rng, 0.5) for _ in range(40)]
    assert all(t.cell_class == "LSIL" for t in thinned) and {t.halo for t in thinned} == {True, None}


def test_limits_are_quantiles_of_the_cells():
    cells = [Measures(0.03 + 0.001 * k, 0.01 * k, 0.01 * k, 0.001 * k) for k in range(100)] + [None]
    limits = GradeLimits.fit(cells, ["NILM"] * 50 + ["HSIL"] * 51)
    assert limits.normal_area == pytest.approx(0.0545, abs=1e-3) and limits.dark == pytest.approx(0.663, abs=0.01)
    assert limits.halo == pytest.approx(0.079, abs=1e-3)
