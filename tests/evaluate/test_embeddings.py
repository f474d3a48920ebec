"""Embeddings are computed once a model and content, and a model trained anew is another one."""

import numpy as np
import pytest
import torch

from pathasst.clip.build import ClipConfig, build
from pathasst.clip.model import PathCLIPModel
from pathasst.evaluate.embeddings import KeptCLIP

TINY = {
    "embed_dim": 16,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "patch_size": 16, "width": 32, "layers": 1, "head_width": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
PICTURES = [np.full((40, 40, 3), 40 * n, np.uint8) for n in range(5)]
TEXTS = ["a lung", "a colon", "a lung"]


@pytest.fixture
def clip():
    torch.manual_seed(0)
    config = ClipConfig(model=TINY)
    return PathCLIPModel(build(config), config, "tiny")


@pytest.fixture
def forward_passes(monkeypatch):
    """How many pictures and texts the model itself sees."""
    counts = {"image": 0, "text": 0}
    pixels, text = PathCLIPModel.encode_pixels, PathCLIPModel.encode_text

    def counted_pixels(self, given):
        counts["image"] += len(given)
        return pixels(self, given)

    def counted_text(self, given, batch=256):
        counts["text"] += len(given)
        return text(self, given, batch)

    monkeypatch.setattr(PathCLIPModel, "encode_pixels", counted_pixels)
    monkeypatch.setattr(PathCLIPModel, "encode_text", counted_text)
    return counts


def test_a_second_run_sees_no_picture_and_no_text_again(clip, tmp_path, forward_passes):
    plain = clip.encode_image(PICTURES), clip.encode_text(TEXTS)
    forward_passes.update(image=0, text=0)
    first = KeptCLIP(clip, tmp_path)
    assert np.allclose(first.encode_image([*PICTURES, PICTURES[0]], batch=2), plain[0][[0, 1, 2, 3, 4, 0]], atol=1e-6)
    assert np.allclose(first.encode_text(TEXTS, batch=2), plain[1], atol=1e-6)
    assert forward_passes == {"image": 5, "text": 2}
    again = KeptCLIP(clip, tmp_path)
    assert np.array_equal(again.encode_image(PICTURES), first.encode_image(PICTURES))
    assert np.array_equal(again.encode_text(TEXTS), first.encode_text(TEXTS))
    assert again.logit_scale == clip.logit_scale
    assert forward_passes == {"image": 5, "text": 2}
    new = np.zeros((40, 20, 3), np.uint8)  # black as the first, of another shape
    again.encode_image([PICTURES[0], new])
    assert forward_passes == {"image": 6, "text": 2}


def test_nothing_gives_no_rows(clip, tmp_path):
    kept = KeptCLIP(clip, tmp_path)
    assert kept.encode_image([]).shape == kept.encode_text([]).shape == (0, 16)


def test_a_record_cut_off_by_a_kill_costs_itself(clip, tmp_path, forward_passes):
    kept = KeptCLIP(clip, tmp_path)
    vectors = kept.encode_image(PICTURES)
    kept.path.write_bytes(kept.path.read_bytes()[:-7])
    forward_passes.update(image=0)
    again = KeptCLIP(clip, tmp_path)
    assert np.allclose(again.encode_image(PICTURES), vectors, atol=1e-6)
    assert forward_passes["image"] == 1
    assert np.allclose(KeptCLIP(clip, tmp_path).encode_image(PICTURES), vectors, atol=1e-6)
    assert forward_passes["image"] == 1


def test_other_parameters_or_another_activation_are_another_model(clip, tmp_path):
    before = KeptCLIP(clip, tmp_path)
    before.encode_image(PICTURES)
    with torch.no_grad():
        clip.model.visual.proj.copy_(torch.randn_like(clip.model.visual.proj))
    after = KeptCLIP(clip, tmp_path)
    assert after.path != before.path
    assert not np.allclose(after.encode_image(PICTURES), before.encode_image(PICTURES), atol=1e-3)
    same = PathCLIPModel(clip.model, ClipConfig(model={**TINY, "quick_gelu": False}))
    assert same.fingerprint() != clip.fingerprint()
