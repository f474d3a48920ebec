"""Deconvolution gives back the stains a colour was mixed from."""

import numpy as np

from pathasst.tools.stains import DAB, HAEMATOXYLIN, STAINS, unmix, white_of


def mixed(haematoxylin: float, dab: float) -> np.ndarray:
    colour = 256 * 10 ** -(haematoxylin * STAINS[0] + dab * STAINS[1]) - 1
    return np.full((4, 4, 3), colour.round(), np.uint8)


def test_known_mixtures_are_unmixed():
    white = np.full(3, 255, np.float32)
    for h, d in [(0.5, 0.0), (0.0, 0.6), (0.3, 0.4)]:
        out = unmix(mixed(h, d), white)[0, 0]
        assert abs(out[HAEMATOXYLIN] - h) < 0.02 and abs(out[DAB] - d) < 0.02


def test_white_is_the_brightest_colour_but_never_dark():
    field = np.full((32, 32, 3), (150, 120, 90), np.uint8)
    field[:8] = (245, 240, 225)
    assert np.allclose(white_of(field), (245, 240, 225))
    assert (white_of(np.full((8, 8, 3), 40, np.uint8)) == 160).all()
