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
)

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
}


@pytest.mark.parametrize("family", EYES)
def test_a_vision_tower_sees_as_it_does_outside(family, tiny_llm, tmp_path):
    torch.manual_seed(0)
    tower, processor = (make() for make in EYES[family])
    tower.save_pretrained(tmp_path / "tower")
    processor.save_pretrained(tmp_path / "tower")
    parts = model.build(ModelSettings(vision=str(tmp_path / "tower"), llm=str(tiny_llm)))
    assert parts.image_tokens == 16
    features = model.features(parts, [picture(RED, 1)])
    assert features.shape == (1, 16, 32)
    inputs = processor(model_picture(), return_tensors="pt")
    with torch.no_grad():
        hidden = tower.eval()(**inputs, output_hidden_states=True).hidden_states[-2]
    torch.testing.assert_close(features, hidden if family == "siglip" else hidden[:, 1:], atol=1e-4, rtol=1e-4)
    same_outside(parts, tmp_path / "out")


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
