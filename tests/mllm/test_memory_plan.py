"""The estimate before a training: sizes against real models, memory and time by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pathasst.core.errors import BadSettings
from pathasst.mllm.memory_plan import GIB, SHAPES, LlmShape, phase_estimate, shape_of
from pathasst.mllm.settings import LoraSettings, PhaseSettings

from .conftest import colours, write

SMALL = LlmShape("small", 8, 2, 16, 4, 100, tied=True)


@pytest.mark.parametrize(("llm", "billions"), [("smollm2-135m", 0.1345), ("qwen3-8b", 8.19), ("vicuna-13b", 13.016)])
def test_known_models_have_their_published_size(llm: str, billions: float) -> None:
    assert shape_of(llm).parameters / 1e9 == pytest.approx(billions, rel=1e-3)


def test_a_folders_model_is_counted(tiny_llm: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_llm)
    norms = sum(p.numel() for n, p in model.named_parameters() if "norm" in n)
    assert shape_of(str(tiny_llm)).parameters == sum(p.numel() for p in model.parameters()) - norms


def test_adapters_are_counted_as_they_are_made(tiny_llm: Path) -> None:
    from transformers import AutoModelForCausalLM

    from pathasst.mllm import lora

    model, settings = AutoModelForCausalLM.from_pretrained(tiny_llm), LoraSettings(rank=4)
    lora.attach(model, 4, 8, settings.modules)
    assert shape_of(str(tiny_llm)).adapter_parameters(4, settings.modules) == sum(w.numel() for w in lora.state(model).values())


def test_memory_is_states_of_the_layers_shared_out_the_rest_and_one_row() -> None:
    plain = PhaseSettings(take={}, lora=LoraSettings(rank=0), row_tokens=10)
    full = PhaseSettings(take={}, full=True, lora=LoraSettings(rank=0), row_tokens=10)
    row = 10 * (2 * 8 * 2 + 34 * 8 * 2 + 100 * 6)
    projector = 6 * 8 + 8
    one = phase_estimate(SMALL, plain, 1000, vision_width=6, devices=1, teraflops=1)
    assert one.trained == projector
    assert one.memory * GIB == pytest.approx(projector * 16 + SMALL.parameters * 2 + row)
    two = phase_estimate(SMALL, full, 1000, vision_width=6, devices=2, teraflops=1)
    assert two.hours * 3600 == pytest.approx(6 * SMALL.parameters * 1000 / 2e12)
    layers = SMALL.parameters - 100 * 8
    assert two.memory * GIB == pytest.approx(layers * 16 / 2 + (projector + 100 * 8) * 16 + row)
    many = phase_estimate(SMALL, plain, 1000, vision_width=6, devices=8, teraflops=1)
    assert many.memory == one.memory  # nothing of the LLM is trained, nothing shared out


def test_adapters_on_sixteen_bits_are_shared_out_and_on_four_bits_not() -> None:
    for bits in (16, 4):
        phase = PhaseSettings(take={}, lora=LoraSettings(rank=2, bits=bits), row_tokens=10)
        one, two = (phase_estimate(SMALL, phase, 1, vision_width=6, devices=n, teraflops=1).memory for n in (1, 2))
        assert (two < one) == (bits == 16)


def test_the_whole_llm_in_float32_may_be_the_most() -> None:
    full = PhaseSettings(take={}, full=True, lora=LoraSettings(rank=0), row_tokens=1)
    wide = LlmShape("deep", 64, 200, 256, 64, 10)
    assert phase_estimate(wide, full, 1, vision_width=6, devices=64, teraflops=1).memory * GIB == wide.parameters * 4


def test_13_billion_weights_on_eight_gpus(tmp_path: Path) -> None:
    from pathasst.cli.main import app

    data = write(tmp_path / "data", colours(8))
    command = ["train", "mllm", str(data), "--recipe", "paper", "--plan", "--devices", "8", "--teraflops", "150"]
    run = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "out")])
    assert run.exit_code == 0, run.output
    first, second = (float(line.split(" GiB")[0].split()[-1]) for line in run.output.splitlines() if line.startswith("phase"))
    assert "13,01" in run.output
    assert " 0 thousand" not in run.output and "under a minute" in run.output and "about 0 min" not in run.output
    assert first == pytest.approx(SHAPES["vicuna-13b"].parameters * 2 / GIB, abs=2)
    assert second == pytest.approx(SHAPES["vicuna-13b"].parameters * 4 / GIB, abs=0.1)
    assert not (tmp_path / "out").exists()  # nothing was started


def test_an_unknown_model_is_asked_for_its_folder(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="folder of a Hugging Face model"):
        shape_of("unknown-7b")
    (tmp_path / "config.json").write_text(
        json.dumps(
            {"hidden_size": 8, "num_hidden_layers": 2, "intermediate_size": 16, "num_attention_heads": 2, "vocab_size": 100}
        )
    )
    assert shape_of(str(tmp_path)).kv == 8
