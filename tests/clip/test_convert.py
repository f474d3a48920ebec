from __future__ import annotations

import os
from dataclasses import replace

import pytest
import torch
from transformers import CLIPConfig, CLIPModel

from pathasst.clip.build import GELU, QUICK_GELU, ClipConfig, build
from pathasst.clip.convert import from_huggingface, to_huggingface, to_vision_model, vision_config
from pathasst.core.errors import BadInput, BadSettings

slow = pytest.mark.skipif(not os.environ.get("PATHASST_SLOW"), reason="minutes and 6 GB of memory: PATHASST_SLOW=1")


def architecture(name: str, activation: str, whole: bool) -> ClipConfig:
    """A real architecture, or the same with two layers a tower and fewer words: every width and shape is the real one."""
    config = ClipConfig.of_name(name, activation)
    if whole:
        return config
    model = {**config.model}
    model["vision_cfg"] = {**model["vision_cfg"], "layers": 2}
    model["text_cfg"] = {**model["text_cfg"], "layers": 2, "vocab_size": 1000}
    return replace(config, model=model)


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=slow)])
@pytest.mark.parametrize("activation", [QUICK_GELU, GELU])
@pytest.mark.parametrize("name", ["ViT-B-32", "ViT-B-16", "ViT-L-14-336"])
def test_both_libraries_agree_to_1e5(name: str, activation: str, whole: bool) -> None:
    torch.manual_seed(0)
    config = architecture(name, activation, whole)
    end = config.model["text_cfg"]["vocab_size"] - 1  # the highest id = end of text
    model = build(config).eval()
    pixels = torch.randn(1, 3, config.image_size, config.image_size)
    ids = torch.zeros(2, 77, dtype=torch.long)
    ids[0, :5], ids[1, :3] = torch.tensor([end - 1, 5, 6, 7, end]), torch.tensor([end - 1, 8, end])
    clip = to_huggingface(model, config)
    with torch.no_grad():
        seen, said = model.encode_image(pixels), model.encode_text(ids)
        out = clip(pixel_values=pixels, input_ids=ids)
        tower = to_vision_model(model, config)(pixels)
        again, config_again = from_huggingface(clip)
        seen_again, said_again = again.encode_image(pixels), again.encode_text(ids)
    normal, near = torch.nn.functional.normalize, {"atol": 1e-5, "rtol": 0}
    assert clip.config.vision_config.hidden_act == clip.config.text_config.hidden_act == activation
    torch.testing.assert_close(out.image_embeds, normal(seen, dim=-1), **near)
    torch.testing.assert_close(out.text_embeds, normal(said, dim=-1), **near)
    assert clip.config.text_config.eos_token_id == end
    torch.testing.assert_close(tower.pooler_output @ model.visual.proj, seen, **near)
    assert config_again.activation == activation
    assert torch.equal(seen_again, seen) and torch.equal(said_again, said)


def test_the_activation_matters(tiny: dict) -> None:
    """The trap itself: same weights, other activation, other embeddings."""
    torch.manual_seed(0)
    quick, plain = ClipConfig(tiny), ClipConfig({**tiny, "quick_gelu": False})
    model, other = build(quick).eval(), build(plain).eval()
    other.load_state_dict(model.state_dict())
    pixels = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert (model.encode_image(pixels) - other.encode_image(pixels)).abs().max() > 1e-4


@pytest.mark.parametrize("change", [{"attentional_pool": True}, {"pool_type": "avg"}, {"timm_model_name": "resnet18"}])
def test_a_tower_that_is_no_plain_vit_is_refused(tiny: dict, change: dict) -> None:
    with pytest.raises(BadSettings, match="no CLIPVisionModel"):
        vision_config(ClipConfig({**tiny, "vision_cfg": {**tiny["vision_cfg"], **change}}))


def test_mixed_activations_are_refused() -> None:
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(
        vision_config={**small, "image_size": 32, "patch_size": 16, "hidden_act": "gelu"},
        text_config={**small, "vocab_size": 99, "hidden_act": "quick_gelu"},
    )
    with pytest.raises(BadInput, match="activations 'gelu'"):
        from_huggingface(CLIPModel(config))


def test_minilm_text_tower_cannot_become_a_clip_model(tiny: dict) -> None:
    config = ClipConfig({**tiny, "text_cfg": {"hf_model_name": "pathasst:minilm"}})
    with pytest.raises(BadSettings, match="vision tower alone"):
        to_huggingface(torch.nn.Linear(1, 1), config)
