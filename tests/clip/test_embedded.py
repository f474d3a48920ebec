"""The committed model: it loads, has the promised shape and knows what its card says."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
import torch

from pathasst.clip.build import FROZEN_TEXT, build
from pathasst.clip.model import PathCLIPModel
from pathasst.core import weights
from pathasst.core.errors import BadSettings

needs_minilm = pytest.mark.skipif(not weights.present("minilm"), reason="minilm is not here: pathasst models pull minilm")


@needs_minilm
def test_the_embedded_model_sees_immunohistochemistry() -> None:
    clip = PathCLIPModel.load("pathclip-embedded")
    picture = skimage.data.immunohistochemistry()
    prompts = ["an H&E stained tissue section", "an immunohistochemically stained tissue section with DAB", "a blood smear"]
    assert clip.classify([picture], prompts)[0].argmax() == 1
    tower = clip.vision_tower()
    assert (tower.config.hidden_size, tower.config.patch_size, tower.config.hidden_act) == (256, 32, "gelu")
    seen = tower(clip.preprocess(picture)[None])
    assert seen.last_hidden_state.shape == (1, 50, 256)
    unit = torch.nn.functional.normalize(seen.pooler_output @ clip.model.visual.proj, dim=-1)
    assert unit.detach().numpy() == pytest.approx(clip.encode_image([picture]), abs=1e-5)


@needs_minilm
def test_the_frozen_text_tower_is_minilm_itself() -> None:
    from safetensors.torch import load_file

    clip = PathCLIPModel.load("pathclip-embedded")
    stored = load_file(weights.path("minilm") / "model.safetensors")
    name = "embeddings.word_embeddings.weight"
    assert torch.equal(clip.model.state_dict()[FROZEN_TEXT + name], stored[name])
    fresh = build(clip.config)
    trained = [n for n, p in fresh.named_parameters() if p.requires_grad]
    assert not any(n.startswith(FROZEN_TEXT) for n in trained) and "text.proj.weight" in trained
    assert np.isfinite(clip.encode_text(["a"])).all()


@needs_minilm
@pytest.mark.skipif(not weights.present("efficientnet-lite0"), reason="pathasst models pull efficientnet-lite0")
def test_the_lite_model_is_lite0_with_projections_and_no_eyes_for_pathasst() -> None:
    clip = PathCLIPModel.load("pathclip-lite")
    prompts = ["a stained tissue section", "a blood smear"]  # which stain, it does not see in this picture (its card says so)
    assert clip.classify([skimage.data.immunohistochemistry()], prompts)[0].argmax() == 0
    with pytest.raises(BadSettings, match="no CLIPVisionModel"):
        clip.vision_tower()


@pytest.mark.parametrize("id", ["pathclip-embedded", "pathclip-lite"])
def test_their_size_and_card(id: str) -> None:
    assert (weights.path(id) / "model.safetensors").stat().st_size < 12_000_000
    assert weights.get(id).research_only and "esearch use only" in weights.card(id)
