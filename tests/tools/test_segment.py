"""Segmentation with the real MobileSAM weights: right masks for points and boxes, embeddings computed once."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pathasst.core import weights
from pathasst.core.records import ToolCall
from pathasst.imaging import rle
from pathasst.imaging.pictures import load
from pathasst.nn.sam.model import Mask, distinct
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


@pytest.mark.parametrize(("sides", "taken"), [((64, 30), 30), ((64, 62), 64), ((20, 64), 20)])
def test_a_point_means_a_part_of_the_picture_unless_there_is_none(sides, taken):
    masks = [Mask(0, 0, np.ones((s, s), bool), 0.9 - 0.1 * i) for i, s in enumerate(sides)]
    tool = Segment()
    tool.sam = SimpleNamespace(name="SAM", set_image=lambda image: None, predict=lambda *prompt: masks)
    result = tool.run(tool.arguments(points=[(5, 5)]), np.full((64, 64, 3), 200, np.uint8))
    assert result.numbers["areas_px"] == [taken**2]


@needs_weights
def test_the_embedding_is_computed_once_for_each_picture(tool, discs, monkeypatch):
    call(tool, discs, points=[[90, 90]])
    runs = []
    encode = tool.sam.network.get_image_embeddings
    monkeypatch.setattr(tool.sam.network, "get_image_embeddings", lambda x: runs.append(1) or encode(x))
    call(tool, discs, points=[[320, 100]])
    call(tool, discs.copy(), box=[40, 40, 140, 140])
    assert not runs
    call(tool, np.ascontiguousarray(discs[::-1]), points=[[90, 90]])
    assert len(runs) == 1


@needs_weights
def test_everything_finds_the_three_discs(tool, discs):
    found = tool.sam.everything(tool.sam.set_image(discs), side=6)
    for true in [(90, 90, 50), (320, 100, 40), (200, 230, 30)]:
        assert max(iou(m.full_mask(300, 420), disc(*true)) for m in found) > 0.9
    assert (np.diff([m.score for m in found]) <= 0).all()


@pytest.mark.parametrize(
    ("shape", "arguments", "message"),
    [
        ((10, 10, 3), {}, "at least 32×32"),
        ((40, 5000, 3), {"box": [10, 10, 4900, 30]}, "within 3072"),
        ((64, 64, 3), {"points": [[70, 10]]}, "outside"),
        ((64, 64, 3), {"not_points": [[7, 10]]}, "points or a box"),
        ((64, 64, 3), {"box": [30, 10, 20, 40]}, "x1 < x2"),
        ((64, 64, 3), {"box": [1, 2, 3]}, "box"),
    ],
)
def test_wrong_calls_are_refused_before_the_model_is_loaded(shape, arguments, message):
    tool = Segment()
    assert message in call(tool, np.zeros(shape, np.uint8), **arguments).error
    assert "sam" not in vars(tool)


def test_near_duplicates_go_and_the_best_stays():
    masks = np.zeros((3, 10, 10), bool)
    masks[0, :5], masks[1, :6], masks[2, 6:] = True, True, True
    assert distinct(masks, np.array([0.8, 0.9, 0.7]), 0.6) == [1, 2]
    assert distinct(masks, np.array([0.8, 0.9, 0.7]), 0.9) == [1, 0, 2]


class Stub:
    """In place of a network: every dark blob is an object. Remembers the sizes of what it was shown."""

    name = "stub"

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def set_image(self, image: np.ndarray) -> np.ndarray:
        self.seen.append(image.shape[:2])
        return image.max(-1) < 100

    def everything(self, dark: np.ndarray) -> list[Mask]:
        import cv2

        _, _, stats, _ = cv2.connectedComponentsWithStats(dark.astype(np.uint8))
        return [Mask(x, y, dark[y : y + h, x : x + w], 0.9) for x, y, w, h, _ in stats[1:].tolist()]

    def predict(self, dark: np.ndarray, points, inside, box) -> list[Mask]:
        x, y = points[0]
        return [m for m in self.everything(dark) if m.box[0] <= x < m.box[2] and m.box[1] <= y < m.box[3]]


@pytest.fixture
def slide() -> tuple[np.ndarray, Segment, Stub]:
    """A picture larger than MAX_SIDE with squares of 40 px, one across the middle where tiles meet."""
    image = np.full((300, 5000, 3), 230, np.uint8)
    for x in (100, 1700, 1880, 2480, 4900):
        image[100:140, x : x + 40] = 40
    tool, stub = Segment(), Stub()
    vars(tool)["sam"] = stub
    return image, tool, stub


def test_a_large_picture_is_read_in_tiles_and_each_object_counts_once(slide):
    image, tool, stub = slide
    result = call(tool, image, um_per_px=0.5)
    assert result.numbers["areas_px"] == [1600] * 5 and len(stub.seen) > 2 and max(map(max, stub.seen)) <= 2048
    masks = [rle.decode(a.rle, 300, 5000) for a in result.annotations]
    assert np.array_equal(np.any(masks, 0), image.max(-1) < 100)
    assert max(load(result.pictures[0].image).shape) < 2200


def test_a_prompt_in_a_large_picture_is_looked_at_with_what_lies_around_it(slide):
    image, tool, stub = slide
    (mark,) = call(tool, image, points=[[4915, 110]]).annotations
    assert mark.coordinates == [4900, 100, 4940, 140] and stub.seen == [(300, 4096)]
    assert rle.decode(mark.rle, 300, 5000)[100:140, 4900:4940].all()


def test_a_sam_of_transformers_answers_through_the_same_tool(tmp_path, discs):
    from transformers import SamConfig, SamImageProcessor, SamModel

    torch.manual_seed(0)
    vision = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "mlp_dim": 16,
        "output_channels": 16,
        "num_pos_feats": 8,
    }
    prompt, decoder = {"hidden_size": 16}, {"hidden_size": 16, "mlp_dim": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
    config = SamConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)
    SamModel(config).save_pretrained(tmp_path)
    tool, seen = Segment(str(tmp_path)), []
    encode = tool.sam.network.get_image_embeddings
    tool.sam.network.get_image_embeddings = lambda x: seen.append(x) or encode(x)
    for asked in (
        {"points": [[90, 90], [80, 80]], "box": [40, 40, 140, 140]},
        {"points": [[90, 90]]},
        {"box": [40, 40, 140, 140]},
    ):
        result = call(tool, discs, **asked)
        assert not result.error and "(SAM)" in result.text and result.version.startswith(tmp_path.name)
    theirs = SamImageProcessor()(discs, return_tensors="pt").pixel_values
    assert len(seen) == 1 and seen[0].shape == theirs.shape and (seen[0] - theirs).abs().mean() < 0.02
    assert (seen[0][..., -1, :] == 0).all()


def test_a_folder_without_a_sam_says_so(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert "neither MobileSAM nor" in call(Segment(str(tmp_path)), np.zeros((64, 64, 3), np.uint8), points=[[5, 5]]).error
