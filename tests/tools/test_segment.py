"""Segmentation with the real MobileSAM weights: right masks for points and boxes, embeddings computed once."""

import numpy as np
import pytest

from pathasst import weights
from pathasst.records import ToolCall
from pathasst.tools import rle
from pathasst.tools.images import load
from pathasst.tools.sam import distinct
from pathasst.tools.segment import Segment

needs_weights = pytest.mark.skipif(not weights.present("mobilesam"), reason="fetch the weights: pathasst models pull mobilesam")


def call(tool, image, **arguments):
    return tool(ToolCall(name="segment", arguments=arguments), image)


@pytest.fixture(scope="module")
def discs() -> np.ndarray:
    """Three dark discs on a pale ground, of 300×420 px: not square, so that padding and scaling show."""
    import cv2

    image = np.full((300, 420, 3), (235, 225, 235), np.uint8)
    for x, y, r in [(90, 90, 50), (320, 100, 40), (200, 230, 30)]:
        cv2.circle(image, (x, y), r, (90, 50, 120), -1, cv2.LINE_AA)
    return image


@pytest.fixture(scope="module")
def tool() -> Segment:
    return Segment()


def disc(x: float, y: float, r: float) -> np.ndarray:
    yy, xx = np.mgrid[:300, :420] + 0.5
    return (xx - x) ** 2 + (yy - y) ** 2 <= r**2


def iou(mask: np.ndarray, other: np.ndarray) -> float:
    return float((mask & other).sum() / (mask | other).sum())


@needs_weights
@pytest.mark.parametrize(
    ("arguments", "true"),
    [
        ({"points": [[90, 90]]}, (90, 90, 50)),
        ({"points": [[320, 100], [300, 90]], "not_points": [[200, 150]]}, (320, 100, 40)),
        ({"box": [165, 195, 235, 265]}, (200, 230, 30)),
    ],
)
def test_a_prompt_gives_the_disc_it_points_to(tool, discs, arguments, true):
    result = call(tool, discs, um_per_px=0.5, **arguments)
    assert not result.error
    (mark,) = result.annotations
    mask = rle.decode(mark.rle, 300, 420)
    assert iou(mask, disc(*true)) > 0.9
    assert result.numbers["areas_px"] == [int(mask.sum())]
    assert result.numbers["areas_um2"][0] == pytest.approx(mask.sum() * 0.25, abs=0.01)
    x1, y1, x2, y2 = mark.coordinates
    assert mask[int(y1) : int(y2), int(x1) : int(x2)].sum() == mask.sum()
    assert np.array_equal(load(result.pictures[1].image)[..., 0] > 0, mask)


@needs_weights
def test_the_embedding_is_computed_once_for_each_picture(tool, discs, monkeypatch):
    call(tool, discs, points=[[90, 90]])
    runs = []
    encode = tool.model.network.get_image_embeddings
    monkeypatch.setattr(tool.model.network, "get_image_embeddings", lambda x: runs.append(1) or encode(x))
    call(tool, discs, points=[[320, 100]])
    call(tool, discs.copy(), box=[40, 40, 140, 140])
    assert not runs
    call(tool, np.ascontiguousarray(discs[::-1]), points=[[90, 90]])
    assert len(runs) == 1


@needs_weights
def test_everything_finds_the_three_discs(tool, discs):
    found = tool.model.everything(tool.model.set_image(discs), side=6)
    for true in [(90, 90, 50), (320, 100, 40), (200, 230, 30)]:
        assert max(iou(m, disc(*true)) for m in found.masks) > 0.9
    assert (np.diff(found.scores) <= 0).all()


@pytest.mark.parametrize(
    ("shape", "arguments", "message"),
    [
        ((10, 10, 3), {}, "at least 32×32"),
        ((40, 5000, 3), {}, "4096"),
        ((64, 64, 3), {"points": [[70, 10]]}, "outside"),
        ((64, 64, 3), {"not_points": [[7, 10]]}, "points or a box"),
        ((64, 64, 3), {"box": [30, 10, 20, 40]}, "x1 < x2"),
        ((64, 64, 3), {"box": [1, 2, 3]}, "box"),
    ],
)
def test_wrong_calls_are_refused_before_the_model_is_loaded(shape, arguments, message):
    tool = Segment()
    assert message in call(tool, np.zeros(shape, np.uint8), **arguments).error
    assert "model" not in vars(tool)


def test_near_duplicates_go_and_the_best_stays():
    masks = np.zeros((3, 10, 10), bool)
    masks[0, :5], masks[1, :6], masks[2, 6:] = True, True, True
    assert distinct(masks, np.array([0.8, 0.9, 0.7]), 0.6) == [1, 2]
    assert distinct(masks, np.array([0.8, 0.9, 0.7]), 0.9) == [1, 0, 2]
