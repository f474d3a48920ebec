"""The estimate before a training: sizes against real models, memory against what the allocator gave out, time by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    Qwen2Config,
)
from typer.testing import CliRunner

from pathasst.core.errors import BadSettings
from pathasst.mllm.memory_plan import Tower, llm_config, parameters_of, phase_memory, tower_of, typical_row
from pathasst.mllm.model import Parts
from pathasst.mllm.packed_loss import features_of, row_loss, tree
from pathasst.mllm.settings import LoraSettings, PhaseSettings
from pathasst.mllm.train import freeze, unfreeze
from pathasst.training.optimizers import as_chosen

from .conftest import colours, write

SIZES = {"hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 300}
MODELS = {
    "llama": LlamaConfig(**SIZES, num_key_value_heads=2, tie_word_embeddings=True),
    "wide vocabulary": LlamaConfig(**{**SIZES, "vocab_size": 4000}, num_key_value_heads=4, tie_word_embeddings=False),
    "qwen2": Qwen2Config(**{**SIZES, "num_hidden_layers": 5}, num_key_value_heads=1, tie_word_embeddings=False),
}
TOWER = Tower(16, 32)
PHASES = {
    "projector": PhaseSettings(take={}),
    "adapters": PhaseSettings(take={}, lora=LoraSettings(rank=4, modules=("q_proj", "down_proj"))),
    "full": PhaseSettings(take={}, full=True, batch=2),
}


def measured(config, phase, row, *, checkpointing=False, kind="adamw") -> int:
    """Bytes of two real steps on the CPU at the worst time, by torch's profiler of allocations."""
    from torch.profiler import ProfilerActivity, profile

    vision = CLIPVisionConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=1, intermediate_size=1)
    whole = LlavaConfig(vision_config=vision, text_config=config, image_token_index=0, projector_hidden_act="linear")
    model = LlavaForConditionalGeneration(whole).eval()
    model.model.vision_tower = torch.nn.Identity()
    if config.tie_word_embeddings:
        model.lm_head.weight = model.get_input_embeddings().weight
    parts = Parts(model, type("Tokenizer", (), {"convert_tokens_to_ids": lambda *_: 0})(), None, None)
    freeze(parts)
    unfreeze(parts, phase, {}, 0)
    if checkpointing:
        parts.llm.gradient_checkpointing_enable({"use_reentrant": False})
        parts.llm.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = as_chosen(torch.optim.AdamW(trained, foreach=False), kind, torch.device("cpu"))
    table = torch.zeros(64, 16, 32, dtype=torch.float16)
    with tree(parts), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        for _ in range(2):
            for _ in range(phase.batch):
                row_loss(parts, row, features_of(row, table)).backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0, foreach=False)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    live = peak = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)
    return sum(p.nbytes for p in model.parameters()) + peak


@pytest.mark.parametrize(
    ("name", "phase"),
    [("llama", "full"), ("llama", "projector"), ("wide vocabulary", "adapters"), ("wide vocabulary", "full"), ("qwen2", "full")],
)
def test_memory_is_within_a_tenth_of_what_is_allocated(name, phase):
    row = typical_row(128, 64, 0.4, 1, TOWER)
    checkpointing = phase == "full" and name == "llama"
    plan = phase_memory(MODELS[name], PHASES[phase], row, TOWER, bf16=False, checkpointing=checkpointing)
    assert plan.peak == pytest.approx(measured(MODELS[name], PHASES[phase], row, checkpointing=checkpointing), rel=0.1)
    assert plan.peak <= 1.02 * (plan.weights + plan.gradients + plan.moments + plan.activations)


def test_moments_in_eight_bits_are_within_a_tenth_of_what_is_allocated():
    pytest.importorskip("bitsandbytes")
    row, config, full = typical_row(32, 16, 0.4, 0, TOWER), MODELS["llama"], PHASES["full"]  # a short row: moments weigh more
    plan = phase_memory(config, full, row, TOWER, bf16=False, optimizer="adamw-8bit")
    assert plan.peak == pytest.approx(measured(config, full, row, kind="adamw-8bit"), rel=0.1)
    plain = phase_memory(config, full, row, TOWER, bf16=False)
    assert plan.moments < 0.35 * plain.moments  # small tensors keep 32 bits
    assert plan.peak < 0.8 * plain.peak


def test_checkpointing_and_more_devices_take_less():
    row, full = typical_row(128, 64, 0.4, 1, TOWER), PHASES["full"]
    plain = phase_memory(MODELS["llama"], full, row, TOWER)
    assert phase_memory(MODELS["llama"], full, row, TOWER, checkpointing=True).activations < 0.7 * plain.activations
    assert phase_memory(MODELS["llama"], full, row, TOWER, varlen=True).activations < plain.activations
    eight = phase_memory(MODELS["llama"], full, row, TOWER, devices=8)
    assert eight.moments == plain.moments / 8
    assert plain.gradients / 8 < eight.gradients < plain.gradients
    assert eight.peak < plain.peak
    lora = PHASES["adapters"]
    sixteen, four = (phase_memory(MODELS["llama"], lora, row, TOWER, bits=bits).weights for bits in (16, 4))
    assert four < sixteen


@pytest.mark.parametrize(("llm", "billions"), [("smollm2-135m", 0.1345), ("qwen3-8b", 8.19), ("vicuna-13b", 13.016)])
def test_known_models_have_their_published_size(llm: str, billions: float) -> None:
    assert parameters_of(llm_config(llm)) / 1e9 == pytest.approx(billions, rel=1e-3)


def test_a_folders_model_is_counted(tiny_llm: Path) -> None:
    real = AutoModelForCausalLM.from_pretrained(tiny_llm)
    assert parameters_of(llm_config(str(tiny_llm))) == sum(p.numel() for p in real.parameters())


def test_the_tower_is_read(tiny_tower: Path) -> None:
    assert tower_of(str(tiny_tower)) == Tower(16, 32)
    assert tower_of("pathclip-embedded") == Tower(49, 256)
    assert tower_of("not-here") == Tower(196, 768)


def test_13_billion_weights_on_eight_gpus(tmp_path: Path) -> None:
    from pathasst.cli.main import app

    data = write(tmp_path / "data", colours(8))
    command = ["train", "mllm", str(data), "--recipe", "paper", "--plan", "--devices", "8", "--teraflops", "150"]
    run = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "out")])
    assert run.exit_code == 0, run.output
    _, second = (float(line.split(" GiB")[0].split()[-1]) for line in run.output.splitlines() if line.startswith("phase"))
    assert "13,01" in run.output and "moments 12.1" in run.output
    assert " 0 thousand" not in run.output and "under a minute" in run.output and "about 0 min" not in run.output
    assert 24 + 2 < second < 80  # sixteen bytes a weight by eight, and what is whole
    assert not (tmp_path / "out").exists()  # nothing was started


def test_an_unknown_model_is_asked_for_its_folder(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="folder of a Hugging Face model"):
        llm_config("unknown-7b")
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **sizes}))
    assert llm_config(str(tmp_path)).hidden_size == 8
