"""Run lengths carry masks exactly, in COCO's order."""

import numpy as np
import pytest

from pathasst.core.errors import BadInput
from pathasst.imaging.rle import area, decode, decode_box, encode


@pytest.mark.parametrize("fill", [0.0, 0.3, 1.0])
def test_decoding_gives_the_mask_back(fill):
    mask = np.random.default_rng(0).random((13, 7)) < fill
    assert np.array_equal(decode(encode(mask), 13, 7), mask)


def test_counts_run_down_the_columns_and_start_with_zeros():
    mask = np.array([[1, 0], [1, 1]], bool)  # columns: 1 1 | 0 1
    assert encode(mask) == "0 2 1 1"


@pytest.mark.parametrize(("x", "y", "h", "w"), [(0, 0, 3, 2), (2, 1, 4, 3), (3, 4, 9, 4), (0, 0, 13, 7)])
@pytest.mark.parametrize("fill", [0.4, 1.0])
def test_a_part_is_encoded_as_the_whole_would_be(x, y, h, w, fill):
    whole = np.zeros((13, 7), bool)
    whole[y : y + h, x : x + w] = np.random.default_rng(2).random((h, w)) < fill
    assert encode(whole[y : y + h, x : x + w], x, y, (13, 7)) == encode(whole)


@pytest.mark.parametrize("box", [(0, 0, 7, 13), (2, 3, 5, 9), (6, 12, 7, 13), (3, 3, 3, 9)])
def test_a_part_is_decoded_as_of_the_whole(box):
    mask, (x1, y1, x2, y2) = np.random.default_rng(3).random((13, 7)) < 0.4, box
    assert np.array_equal(decode_box(encode(mask), 13, 7, box), mask[y1:y2, x1:x2])
    assert area(encode(mask)) == mask.sum()


def test_it_agrees_with_pycocotools():
    mask_tools = pytest.importorskip("pycocotools.mask")
    mask = np.random.default_rng(1).random((31, 17)) < 0.5
    counts = [int(c) for c in encode(mask).split()]
    theirs = mask_tools.decode(mask_tools.frPyObjects({"counts": counts, "size": [31, 17]}, 31, 17))
    assert np.array_equal(theirs.astype(bool), mask)


@pytest.mark.parametrize("counts", ["", "3 1", "a b", "-1 5"])
def test_counts_that_do_not_fit_are_refused(counts):
    with pytest.raises(BadInput):
        decode(counts, 2, 3)
