"""The shipped generator draws cells that differ as they are asked to."""

import numpy as np
import pytest

from pathasst.core import weights
from pathasst.nn.diffusion.describe import Attributes, measure, words
from pathasst.nn.diffusion.network import Generator

pytestmark = pytest.mark.skipif(
    not weights.present("lbc-generator-embedded"), reason="the generator's weights or MiniLM are not here: pathasst models pull"
)


def nuclei(drawn: np.ndarray) -> list[float]:
    found = [measure(cell) for cell in drawn]
    return [m.area for m in found if m]


def test_a_nucleus_lies_in_the_middle_and_an_enlarged_one_is_larger():
    generator = Generator.load("lbc-generator-embedded")
    usual = nuclei(generator.draw([words(Attributes("NILM", 1.0))] * 8, seed=5))
    large = nuclei(generator.draw([words(Attributes("LSIL", 3.5, dark=True))] * 8, seed=5))
    assert len(usual) >= 6 and len(large) >= 6
    assert np.median(large) > 1.5 * np.median(usual)
