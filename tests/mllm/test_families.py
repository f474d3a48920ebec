"""Language models and vision towers of the families in use, tiny and random: packed loss, export, transformers outside."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoProcessor,
    BitImageProcessor,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    Gemma2Config,
    Gemma3TextConfig,
    LlamaConfig,
    LlavaForConditionalGeneration,
    MistralConfig,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
    SiglipImageProcessor,
    SiglipVisionConfig,
    SiglipVisionModel,
    SmolLM3Config,
)

from pathasst.core.errors import BadSettings
from pathasst.core.records import IMAGE
from pathasst.mllm import lora, model
from pathasst.mllm.pack import Sample, build_row
from pathasst.mllm.packed_loss import features_of, row_loss, tree
from pathasst.mllm.settings import ModelSettings

from .conftest import RED, make_tokenizer, picture

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 420,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
}
LLMS = {
    "llama": LlamaConfig(**SIZES),
    "qwen2": Qwen2Config(**SIZES, use_sliding_window=False),
    "qwen3": Qwen3Config(**SIZES, head_dim=8),
    "mistral": MistralConfig(**SIZES, sliding_window=24),
    "gemma2": Gemma2Config(**SIZES, head_dim=8, sliding_window=24, final_logit_softcapping=None),
    "gemma3": Gemma3TextConfig(**SIZES, head_dim=8, sliding_window=24, layer_types=["sliding_attention", "full_attention"]),
    "phi3": Phi3Config(**SIZES),
    "smollm3": SmolLM3Config(**SIZES, no_rope_layers=[1, 0]),
}
LINEARS = {"phi3": ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")}


@pytest.mark.parametrize("family", LLMS)
def test_a_language_model_trains_packed_and_runs_outside(family, tiny_tower, tmp_path):
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(LLMS[family]).save_pretrained(tmp_path / "llm")
    make_tokenizer().save_pretrained(tmp_path / "llm")
    parts = model.build(ModelSettings(vision=str(tiny_tower), llm=str(tmp_path / "llm")))
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "llm", attn_implementation="eager")
    rng = np.random.default_rng(0)
    prefix = rng.integers(5, 400, 30)
    samples = []
    for n in range(3):
        ids = np.concatenate([prefix, rng.integers(5, 400, 20 + n)]).astype(np.int32)
        samples.append(Sample(str(n), ids, np.arange(len(ids)) > 35, 30))
    with torch.no_grad():
        expected = 0.0
        for s in samples:
            ids = torch.from_numpy(s.ids.astype(np.int64))[None]
            logits = plain(ids).logits[0, :-1][torch.from_numpy(s.mask[1:])]
            expected += float(
                torch.nn.functional.cross_entropy(logits, ids[0, 1:][torch.from_numpy(s.mask[1:])], reduction="sum")
            )
    row = build_row(samples)
    table = torch.zeros(1, parts.image_tokens, 32)
    with torch.no_grad(), tree(parts):
        assert float(row_loss(parts, row, features_of(row, table))) == pytest.approx(expected, rel=1e-4)
    parts.model.requires_grad_(False)
    lora.attach(parts.llm, 2, 4, LINEARS.get(family, ("q_proj", "down_proj")))
    with tree(parts):
        row_loss(parts, row, features_of(row, table)).backward()
    named = [p for n, p in parts.llm.named_parameters() if n.endswith("lora_B")]
    assert named
    assert all(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in named)
    fresh = model.build(ModelSettings(vision=str(tiny_tower), llm=str(tmp_path / "llm")))
    same_outside(fresh, tmp_path / "out")


EYES = {
    "siglip": (
        lambda: SiglipVisionModel(
            SiglipVisionConfig(
                hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2, image_size=32, patch_size=8
            )
        ),
        lambda: SiglipImageProcessor(size={"height": 32, "width": 32}),
    ),
    "dinov2": (  # its positions are of 64 px, its pictures of 32
        lambda: Dinov2Model(
            Dinov2Config(hidden_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=64, patch_size=8)
        ),
        lambda: BitImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
    ),
    "dinov2_with_registers": (
        lambda: Dinov2WithRegistersModel(
            Dinov2WithRegistersConfig(
                hidden_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=32, patch_size=8, num_register_tokens=4
            )
        ),
        lambda: BitImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
    ),
    "dinov3": (
        lambda: DINOv3ViTModel(
            DINOv3ViTConfig(
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=3,
                num_attention_heads=2,
                image_size=32,
                patch_size=8,
                num_register_tokens=4,
            )
        ),
        lambda: BitImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
    ),
}


@pytest.mark.parametrize("family", EYES)
def test_a_vision_tower_sees_as_it_does_outside(family, tiny_llm, tmp_path):
    torch.manual_seed(0)
    tower, processor = (make() for make in EYES[family])
    tower.save_pretrained(tmp_path / "tower")
    processor.save_pretrained(tmp_path / "tower")
    parts = model.build(ModelSettings(vision=str(tmp_path / "tower"), llm=str(tiny_llm)))
    tokens = 16 + getattr(tower.config, "num_register_tokens", 0)
    assert parts.image_tokens == tokens
    features = model.features(parts, [picture(RED, 1)])
    assert features.shape == (1, tokens, 32)
    inputs = processor(model_picture(), return_tensors="pt")
    with torch.no_grad():
        hidden = tower.eval()(**inputs, output_hidden_states=True).hidden_states[-2]
    torch.testing.assert_close(features, hidden if family == "siglip" else hidden[:, 1:], atol=1e-4, rtol=1e-4)
    same_outside(parts, tmp_path / "out")


TIMM = {
    "uni": {"init_values": 1e-5},
    "plain": {},
    "virchow2": {"init_values": 1e-5, "reg_tokens": 4, "mlp_ratio": 5.5, "gated": True},
    "uni2": {"init_values": 1e-5, "reg_tokens": 8, "mlp_ratio": 5.5, "gated": True, "no_embed_class": True},
    "conch": {"part": "visual.trunk."},
    "keep": {"init_values": 1e-5, "part": "visual."},
}
"""What the published models differ in, at a width of 32, of which DINOv2's SwiGLU makes an inner width of 88."""


@pytest.mark.parametrize("layout", TIMM)
def test_a_foundation_model_in_timms_layout_sees_as_in_timm(layout, tiny_llm, tmp_path):
    import json

    import timm
    from safetensors.torch import save_file

    arguments = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 2, "num_classes": 0, **TIMM[layout]}
    part = arguments.pop("part", "")
    more = {"mlp_layer": timm.layers.SwiGLUPacked, "act_layer": torch.nn.SiLU} if arguments.pop("gated", False) else {}
    torch.manual_seed(0)
    theirs = timm.create_model("vit_tiny_patch16_224", **arguments, **more).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    folder = tmp_path / "tower"
    folder.mkdir()
    about = {"input_size": [3, 32, 32], "mean": [0.7, 0.6, 0.7], "std": [0.2, 0.2, 0.2], "crop_pct": 1.0}
    config = {"architecture": "vit_tiny_patch16_224", "model_args": arguments, "pretrained_cfg": about}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    others = {"text.positional_embedding": torch.zeros(4, 4)} if part else {}
    save_file({f"{part}{k}": v for k, v in theirs.state_dict().items()} | others, folder / "model.safetensors")
    tower, processor = model.vision_tower(str(folder))
    pixels = processor(model_picture(), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        torch.testing.assert_close(tower(pixels).last_hidden_state, theirs.forward_features(pixels), atol=1e-4, rtol=1e-4)
    parts = model.build(ModelSettings(vision=str(folder), llm=str(tiny_llm)))
    assert parts.image_tokens == 16 + TIMM[layout].get("reg_tokens", 0)
    same_outside(parts, tmp_path / "out")


def test_what_is_no_plain_vit_is_refused(tmp_path):
    import json

    import timm
    from safetensors.torch import save_file

    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet18"}), encoding="utf-8")
    save_file(timm.create_model("resnet18", num_classes=2).state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(BadSettings, match="resnet18 is no plain ViT"):
        model.vision_tower(str(tmp_path))


def model_picture():
    import io

    from PIL import Image

    return Image.open(io.BytesIO(picture(RED, 1)))


def same_outside(parts, folder) -> None:
    """The exported checkpoint, read by transformers alone, gives the logits of ours on a picture."""
    model.save(parts, folder)
    outside = LlavaForConditionalGeneration.from_pretrained(folder).eval()
    inputs = AutoProcessor.from_pretrained(folder)(text=[f"{IMAGE}\nWhat colour?"], images=[model_picture()], return_tensors="pt")
    again = model.load(folder)
    assert again.image_tokens == parts.image_tokens
    with torch.no_grad():
        theirs = outside(**inputs).logits
        torch.testing.assert_close(parts.model(**inputs).logits, theirs, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(again.model(**inputs).logits, theirs, atol=1e-4, rtol=1e-4)
