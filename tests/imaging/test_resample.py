from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pathasst.imaging.resample import block_of, margin_of, resample

RANDOM = np.random.default_rng(0)


def smooth(side: int) -> np.ndarray:
    """A picture with structures of a few px."""
    small = RANDOM.integers(0, 255, (side // 6, side // 6, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("factor", [1.01, 1.25, 1.4, 1.7, 2.0, 2.6, 3.3])
@pytest.mark.parametrize("start", [12.0, 12.4])
def test_nearly_what_pillows_filter_gives(factor: float, start: float) -> None:
    size = (96, 80)
    pixels, box = smooth(384), (start, start, start + factor * size[0], start + factor * size[1])
    expected = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.HAMMING, box=box)).astype(float)
    error = np.mean((resample(pixels, box, size) - expected) ** 2)
    assert 10 * np.log10(255**2 / error) > 38


@pytest.mark.parametrize("factor", [1.8, 2.3, 3.9, 4.0, 5.7, 9.3])
def test_detail_that_the_result_cannot_show_becomes_grey(factor: float) -> None:
    stripes = np.zeros((600, 600, 3), np.uint8)
    stripes[:, ::2] = 255  # sampled without a filter these are bands of black and white
    box = (7.0, 7.0, 7 + 48 * factor, 7 + 48 * factor)
    expected = np.asarray(Image.fromarray(stripes).resize((48, 48), Image.Resampling.HAMMING, box=box))
    assert resample(stripes, box, (48, 48)).std() < 1.15 * expected.std() + 3 < 40


@pytest.mark.parametrize("factor", [0.5, 1.3, 1.9, 3.1, 6.4])
def test_a_part_is_cut_out_of_the_whole(factor: float) -> None:
    pixels, size = smooth(600), (40, 40)
    block, margin = block_of(factor), margin_of(factor)
    x1 = 90.3
    whole = resample(pixels, (x1, x1, x1 + factor * 40, x1 + factor * 40), size)
    first, last = int(max(x1 - margin, 0)) // block * block, int(np.ceil(x1 + factor * 40)) + margin
    part = resample(pixels[first:last, first:last], (x1 - first,) * 2 + (x1 - first + factor * 40,) * 2, size)
    assert np.abs(part.astype(int) - whole).max() <= 1
