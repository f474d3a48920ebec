"""Two processes with gloo: their result is that of one process, sharded or not, and a stopped sharded run resumes exactly.

`torchrun` itself starts the two processes of tests/training; here they are forked.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pathasst.core.errors import BadSettings
from pathasst.mllm.settings import LoraSettings, MllmTraining, ModelSettings, PhaseSettings
from pathasst.mllm.train import train
from pathasst.training import log as logs

from .conftest import SPECS, colours, write


class Stop(Exception):
    """Ends a training in its second phase."""


def in_two_processes(folder: Path) -> None:
    """What each of both processes does."""
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

    from pathasst import training
    from pathasst.training import checkpoint, loop

    AcceleratorState._reset_state(reset_partial_state=True)  # of the process that they were forked from
    fit, accelerator_of = training.fit, loop._accelerator

    def stopping(task, settings, out, **rest):
        fit(task, settings, out, **rest, stop_at=3 if out.name == "phase2" else 0)
        if out.name == "phase2":
            raise Stop

    def sharding(*arguments):  # Accelerate itself shards on accelerators alone
        accelerator = accelerator_of(*arguments)
        accelerator.state.distributed_type = DistributedType.FSDP
        accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin(fsdp_version=2, auto_wrap_policy="TRANSFORMER_BASED_WRAP")
        return accelerator

    def run(name, like, **changes):
        settings = MllmTraining(**json.loads((folder / f"{like}.json").read_text())).replace(**changes)
        train([folder / "data"], folder / name, settings, SPECS, say=lambda _: None)

    assert loop.processes("cpu").num_processes == 2
    run("two-lora", "lora")
    loop._accelerator = sharding
    run("two-full", "full")
    training.fit = stopping
    with pytest.raises(Stop):
        run("stopped", "full", async_save=True, keep=2)
    training.fit = fit
    world = loop.processes("cpu")
    if world.is_main_process:  # as a kill leaves it that comes while the last checkpoint is written
        newest = checkpoint.path_of(folder / "stopped" / "phase2", 3)
        (newest / ".metadata").unlink()
        newest.rename(newest.with_name(f"{newest.name}.new"))
        assert checkpoint.steps_saved(folder / "stopped" / "phase2") == [2]
    world.wait_for_everyone()
    run("stopped", "full", async_save=True)
    run("two-sharded-lora", "lora")
    with pytest.raises(BadSettings, match="cannot be sharded"):
        run("eight-bits", "lora", optimizer="adamw-8bit")


@pytest.fixture(scope="module")
def folder(tiny_llm, tiny_tower, tmp_path_factory, forked) -> Path:
    """Each training by one process and by two."""
    made = tmp_path_factory.mktemp("distributed")
    pictured = colours(12)  # beside them conversations without pictures: the rows of one process may then hold none
    words = [replace(c, conversation_id=f"w{c.conversation_id}", images=[], turns=_without_marks(c.turns)) for c in pictured]
    data = write(made / "data", [*pictured, *(c for c in words if c.kind == "invoke")])
    for name in ("lora", "full"):
        settings = MllmTraining(
            model=ModelSettings(vision=str(tiny_tower), llm=str(tiny_llm)),
            phase1=PhaseSettings(take={"describe": 0}, projector_lr=2e-3, row_tokens=120, batch=3),
            phase2=PhaseSettings(
                take={"describe": 4, "invoke": 10},
                lr=1e-3 if name == "full" else 1e-2,
                row_tokens=250,
                batch=2,
                lora=LoraSettings(rank=4, alpha=8),
                full=name == "full",
            ),
            precision="fp32",
            tool_lists=1,
            save_every=2,
            evaluate_every=2,
        )
        (made / f"{name}.json").write_text(json.dumps(settings.plain()))
        train([data], made / f"one-{name}", settings, SPECS, say=lambda _: None)
    assert forked(lambda: in_two_processes(made), processes=2) == [0, 0]
    return made


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(next(run.glob("*/model.safetensors")))


@pytest.mark.parametrize(("name", "like"), [("two-lora", "lora"), ("two-sharded-lora", "lora"), ("two-full", "full")])
def test_two_processes_train_as_one(folder, name, like):
    one, two = weights(folder / f"one-{like}"), weights(folder / name)
    assert set(one) == set(two)
    assert max(float((one[n].float() - two[n].float()).abs().max()) for n in one) < 2e-3
    for phase in (1, 2):
        lines = [logs.read(folder / run / f"phase{phase}") for run in (f"one-{like}", name)]
        assert any("val_loss" in line for line in lines[0])
        for line, other in zip(*lines, strict=True):
            assert {**other, "seconds": 0} == pytest.approx({**line, "seconds": 0}, rel=1e-3)


def test_a_stopped_sharded_run_resumes_with_the_same_bits(folder):
    whole, stopped = weights(folder / "two-full"), weights(folder / "stopped")
    assert all(torch.equal(whole[n], stopped[n]) for n in whole)
    for phase in (1, 2):
        lines = [logs.read(folder / run / f"phase{phase}") for run in ("two-full", "stopped")]
        assert [{**line, "seconds": 0} for line in lines[0]] == [{**line, "seconds": 0} for line in lines[1]]
    assert not list(folder.glob("*/phase*/checkpoints"))  # removed once the model was written


def test_what_sharded_processes_wrote_loads_as_a_plain_checkpoint(folder):
    from transformers import LlavaForConditionalGeneration

    model, about = LlavaForConditionalGeneration.from_pretrained(folder / "two-full" / "checkpoint", output_loading_info=True)
    assert not any(about[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert model.config.text_config.tie_word_embeddings


def _without_marks(turns):
    return [replace(t, content=t.content.replace("<image>\n", "")) for t in turns]
