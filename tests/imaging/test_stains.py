"""Deconvolution gives back the stains a colour was mixed from."""

import numpy as np
import pytest

from pathasst.imaging.pictures import load
from pathasst.imaging.stains import DAB, HAEMATOXYLIN, STAINS, looks_like_eosin, unmix, white_of


def mixed(haematoxylin: float, dab: float) -> np.ndarray:
    colour = 256 * 10 ** -(haematoxylin * STAINS[0] + dab * STAINS[1]) - 1
    return np.full((4, 4, 3), colour.round(), np.uint8)


def test_known_mixtures_are_unmixed():
    white = np.full(3, 255, np.float32)
    for h, d in [(0.5, 0.0), (0.0, 0.6), (0.3, 0.4)]:
        out = unmix(mixed(h, d), white)[0, 0]
        assert abs(out[HAEMATOXYLIN] - h) < 0.02 and abs(out[DAB] - d) < 0.02


def test_pink_is_told_from_brown_and_blue():
    pink, brown, blue = (np.full((64, 64, 3), c, np.uint8) for c in ((230, 150, 190), (150, 100, 60), (110, 120, 180)))
    pale, purple = np.full((64, 64, 3), 240, np.uint8), np.full((64, 64, 3), (110, 80, 160), np.uint8)
    assert looks_like_eosin(np.hstack([pink, blue, pale])) and looks_like_eosin(np.hstack([purple, pale]))
    assert not looks_like_eosin(np.hstack([brown, blue, pale]))
    assert not looks_like_eosin(np.hstack([blue, pale, pale]))
    assert not looks_like_eosin(np.hstack([pink, brown, blue]))


@pytest.mark.real
@pytest.mark.parametrize(
    ("folder", "stained"), [("HE", True), ("PDL1(SP142)-Springbio", False), ("PD1(NAT105)-CellMarque", False)]
)
def test_cores_of_one_tissue_are_told_apart_by_their_stain(real_data, folder, stained):
    cores = sorted((real_data / "pdl1_tma" / "images" / folder).glob("*_00[234].jpg"))
    assert [looks_like_eosin(load(core)) for core in cores] == [stained] * 3


def test_white_is_the_brightest_colour_but_never_dark():
    field = np.full((32, 32, 3), (150, 120, 90), np.uint8)
    field[:8] = (245, 240, 225)
    assert np.allclose(white_of(field), (245, 240, 225))
    assert (white_of(np.full((8, 8, 3), 40, np.uint8)) == 160).all()
