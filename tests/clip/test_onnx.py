"""PathCLIP by ONNX Runtime: the vectors of torch, without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pathasst.clip import onnx
from pathasst.clip.build import ClipConfig, build
from pathasst.clip.model import PathCLIPModel
from pathasst.clip.onnx import OnnxClip, load, prepare
from pathasst.core import weights

pytestmark = pytest.mark.skipif(not weights.present("minilm"), reason="minilm is not here: pathasst models pull minilm")
TEXTS = [
    "Lung adenocarcinoma (H&amp;E,  ×400).",
    "a",
    "CD20⁺ cells; “naïve” β-catenin " + "in a very long caption of many words " * 30,
    "",
]


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (*shape, 3), dtype=np.uint8)


@pytest.fixture
def own_cache(monkeypatch, tmp_path):
    """A cache of the test's own for what is written; the weights are found where they are."""
    monkeypatch.setenv("PATHASST_MODELS", str(weights.path("minilm").parent))
    monkeypatch.setenv("PATHASST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "onnx"


@pytest.fixture
def small(tiny: dict, tmp_path: Path) -> Path:
    """A folder with a ViT of two layers and MiniLM's words."""
    torch.manual_seed(3)
    text = {"hf_model_name": "pathasst:minilm", "hf_proj_type": "linear", "hf_pooler_type": "mean_pooler", "context_length": 64}
    config = ClipConfig({**tiny, "quick_gelu": False, "text_cfg": text})
    PathCLIPModel(build(config), config).save(tmp_path / "small")
    return tmp_path / "small"


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(axis=1)


def test_both_towers_give_the_vectors_of_torch(small, own_cache):
    quick, slow = OnnxClip(small), PathCLIPModel.load(small)
    pictures = [noise(64, 64), noise(90, 70), noise(33, 128)]
    assert cosines(quick.encode_image(pictures, batch=2), slow.encode_image(pictures)) == pytest.approx(1, abs=1e-5)
    assert cosines(quick.encode_text(TEXTS), slow.encode_text(TEXTS)) == pytest.approx(1, abs=1e-5)
    assert quick.similarity(pictures, TEXTS[:2]) == pytest.approx(slow.similarity(pictures, TEXTS[:2]), abs=1e-5)
    assert quick.encode_image([]).shape == quick.encode_text([]).shape == (0, 32)
    prompts = ["liver", ["kidney", "renal tissue"]]
    assert quick.classify(pictures, prompts) == pytest.approx(slow.classify(pictures, prompts), abs=1e-3)
    assert quick.logit_scale == pytest.approx(slow.logit_scale) and quick.version == slow.version == "small"


def test_towers_are_written_once_for_each_content(small, own_cache, monkeypatch, tiny):
    prepare(str(small))
    files = set(own_cache.iterdir())
    assert len(files) == 2
    monkeypatch.setattr(onnx, "write", None)  # a second writing would fail
    first = load(str(small))
    before = first.encode_image([noise(64, 64)])
    assert set(own_cache.iterdir()) == files
    monkeypatch.undo()
    clip = PathCLIPModel.load(small)
    torch.nn.init.normal_(clip.model.visual.proj)
    clip.save(small)  # other weights under the same name
    again = load(str(small))
    assert cosines(before, again.encode_image([noise(64, 64)]))[0] < 0.9
    assert again.fingerprint() != first.fingerprint()


def test_what_onnx_cannot_hold_is_run_by_torch(small, tiny, tmp_path, monkeypatch, own_cache):
    config = ClipConfig(tiny)  # with CLIP's own text tower
    PathCLIPModel(build(config), config).save(tmp_path / "own")
    prepare(str(tmp_path / "own"))
    assert isinstance(load(str(tmp_path / "own")), PathCLIPModel) and not own_cache.exists()

    def fft(self, image, normalize=False):
        return torch.fft.fft(image.flatten(1)).real[:, :32]

    monkeypatch.setattr("open_clip.model.CustomTextCLIP.encode_image", fft)
    prepare(str(small))
    with pytest.warns(UserWarning, match="run by torch: encode_image"):
        assert isinstance(load(str(small)), PathCLIPModel)


def test_a_gpu_runs_torch(small, own_cache, monkeypatch):
    monkeypatch.setattr(onnx, "has_gpu", lambda: True)
    assert isinstance(load(str(small)), PathCLIPModel) and not own_cache.exists()


def test_a_tower_that_traces_wrongly_is_not_used(small, own_cache, monkeypatch):
    def fixed(self, image, normalize=False):
        scale = float(image.mean() > -9) - float(image.std())  # a number of the traced picture, frozen in the file
        return torch.nn.functional.normalize(image.flatten(1)[:, :32] + 50 * scale, dim=1)

    monkeypatch.setattr("open_clip.model.CustomTextCLIP.encode_image", fixed)
    with pytest.warns(UserWarning, match="gives other vectors"):
        load(str(small))


@pytest.mark.parametrize("name", ["pathclip-embedded", "pathclip-lite"])
def test_the_shipped_models_agree_with_torch_and_need_none_of_it(name, tmp_path):
    if not weights.present(name):
        pytest.skip(f"pathasst models pull {name}")
    prepare(name)
    pictures = [noise(180, 200), noise(260, 200)]
    np.savez(tmp_path / "pictures.npz", *pictures)
    code = f"""
import sys, numpy as np
from pathasst.clip.onnx import load
clip = load({name!r})
pictures = list(np.load({str(tmp_path / "pictures.npz")!r}).values())
np.savez({str(tmp_path / "vectors.npz")!r}, image=clip.encode_image(pictures), text=clip.encode_text({TEXTS!r}))
print([m for m in ("torch", "open_clip", "timm", "transformers") if m in sys.modules])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
    quick, slow = np.load(tmp_path / "vectors.npz"), PathCLIPModel.load(name)
    assert cosines(quick["image"], slow.encode_image(pictures)) == pytest.approx(1, abs=1e-3)
    assert cosines(quick["text"], slow.encode_text(TEXTS)) == pytest.approx(1, abs=1e-3)
