"""Two processes with gloo: their result is that of one process, sharded or not, and a stopped sharded run resumes exactly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pathasst.mllm.settings import LoraSettings, MllmTraining, ModelSettings, PhaseSettings
from pathasst.mllm.train import train
from pathasst.training import log as logs

from .conftest import SPECS, colours, write

LAUNCH = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
SCRIPT = """
import json, sys
from pathlib import Path

from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

from pathasst import training
from pathasst.core.records import ToolSpec
from pathasst.mllm.settings import MllmTraining
from pathasst.mllm.train import train
from pathasst.training import loop

folder = Path(sys.argv[1])
specs = [ToolSpec(**s) for s in json.loads((folder / "specs.json").read_text())]
fit, accelerator_of = training.fit, loop._accelerator


class Stop(Exception):
    pass


def stopping(task, settings, out, **rest):
    fit(task, settings, out, **rest, stop_at=3 if out.name == "phase2" else 0)
    if out.name == "phase2":
        raise Stop


def sharding(*arguments):  # Accelerate itself shards on accelerators alone
    accelerator = accelerator_of(*arguments)
    accelerator.state.distributed_type = DistributedType.FSDP
    accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin(fsdp_version=2, auto_wrap_policy="TRANSFORMER_BASED_WRAP")
    return accelerator


def run(name, like):
    settings = MllmTraining(**json.loads((folder / f"{like}.json").read_text()))
    train([folder / "data"], folder / name, settings, specs, say=lambda line: print(name, line, flush=True))


assert loop.processes("cpu").num_processes == 2
run("two-lora", "lora")
loop._accelerator = sharding
run("two-full", "full")
training.fit = stopping
try:
    run("stopped", "full")
except Stop:
    training.fit = fit
run("stopped", "full")
run("two-sharded-lora", "lora")
"""


@pytest.fixture(scope="module")
def folder(tiny_llm, tiny_tower, tmp_path_factory) -> Path:
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
    (made / "specs.json").write_text(json.dumps([asdict(s) for s in SPECS]))
    (made / "run.py").write_text(SCRIPT)
    command = [sys.executable, "-m", *LAUNCH, str(made / "run.py"), str(made)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-4000:]
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
