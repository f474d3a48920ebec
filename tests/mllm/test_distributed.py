"""Two processes with gloo: the LLM sharded by FSDP, the result that of one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from pathasst.mllm import distributed
from pathasst.mllm import training_log as room
from pathasst.mllm.model import ModelSettings
from pathasst.mllm.settings import LoraSettings, PhaseSettings, TrainSettings
from pathasst.mllm.train import train

from .conftest import SPECS, colours, write
from .test_train import CHILD

RECIPES = Path(__file__).parents[2] / "recipes"
TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
ACCELERATE = [
    *("accelerate.commands.accelerate_cli", "launch", "--config_file", str(RECIPES / "paper" / "accelerate.yaml")),
    *("--num_processes", "2", "--main_process_port", "0"),
]


@pytest.mark.parametrize(("full", "launcher"), [(False, ACCELERATE), (True, TORCHRUN)])
def test_two_processes_train_as_one(full, launcher, tiny_llm, tiny_tower, tmp_path):
    settings = TrainSettings(
        model=ModelSettings(vision=str(tiny_tower), llm=str(tiny_llm)),
        phase1=PhaseSettings(take={"describe": 0}, projector_lr=2e-3, row_tokens=120, rows_per_step=3),
        phase2=PhaseSettings(
            take={"describe": 4, "invoke": 16},
            lr=1e-3 if full else 1e-2,
            row_tokens=250,
            rows_per_step=2,
            lora=LoraSettings(4, 8),
            full=full,
        ),
        precision="fp32",
        tool_lists=1,
        validate_every=1000,
    )
    pictured = colours(16)  # beside them conversations without pictures: the rows of one process may then hold none
    words = [replace(c, conversation_id=f"w{c.conversation_id}", images=[], turns=_without_marks(c.turns)) for c in pictured]
    data = write(tmp_path / "data", [*pictured, *(c for c in words if c.kind == "invoke")])
    train([data], tmp_path / "one", settings, SPECS, say=lambda _: None)
    (tmp_path / "run.py").write_text(CHILD)
    (tmp_path / "settings.json").write_text(json.dumps(settings.plain()))
    (tmp_path / "specs.json").write_text(json.dumps([asdict(s) for s in SPECS]))
    launch = [sys.executable, "-m", *launcher, str(tmp_path / "run.py")]
    files = [str(data), str(tmp_path / "two"), str(tmp_path / "settings.json"), str(tmp_path / "specs.json")]
    done = subprocess.run([*launch, *files], capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-2000:]
    from safetensors.torch import load_file

    made = "checkpoint" if full else "adapter"
    one, two = (load_file(tmp_path / n / made / "model.safetensors") for n in ("one", "two"))
    assert set(one) == set(two)
    assert max(float((one[n].float() - two[n].float()).abs().max()) for n in one) < 2e-3
    losses = [[s.loss for s in room.read(tmp_path / n / "losses.csv")] for n in ("one", "two")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert len(losses[0]) > 4


def _without_marks(turns):
    return [replace(t, content=t.content.replace("<image>\n", "")) for t in turns]


def test_each_process_takes_its_own_gpu(monkeypatch):
    import torch

    asked = []
    monkeypatch.setattr(torch.cuda, "set_device", asked.append)
    monkeypatch.setattr(torch.distributed, "init_process_group", asked.append)
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("LOCAL_RANK", "3")
    distributed.start("cuda")
    assert asked == [3, "cpu:gloo,cuda:nccl"]


def test_rows_are_shared_out_evenly(monkeypatch):
    for rank, expected in ((0, [("a", 2.0), ("c", 2.0)]), (1, [("b", 2.0), ("a", 0.0)])):
        monkeypatch.setattr(distributed, "world", lambda rank=rank: (rank, 2))
        assert distributed.share(["a", "b", "c"]) == expected
