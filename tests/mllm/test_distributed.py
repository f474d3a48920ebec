"""Two processes with gloo: the result is that of one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace

import pytest

from pathasst.mllm.settings import LoraSettings, MllmTraining, ModelSettings, PhaseSettings
from pathasst.mllm.train import train
from pathasst.training import log as logs

from .conftest import SPECS, colours, write
from .test_train import CHILD

TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
ACCELERATE = [
    *("accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1"),
    *("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"),
]


@pytest.mark.parametrize(("full", "launcher"), [(False, ACCELERATE), (True, TORCHRUN)])
def test_two_processes_train_as_one(full, launcher, tiny_llm, tiny_tower, tmp_path):
    settings = MllmTraining(
        model=ModelSettings(vision=str(tiny_tower), llm=str(tiny_llm)),
        phase1=PhaseSettings(take={"describe": 0}, projector_lr=2e-3, row_tokens=120, batch=3),
        phase2=PhaseSettings(
            take={"describe": 4, "invoke": 16},
            lr=1e-3 if full else 1e-2,
            row_tokens=250,
            batch=2,
            lora=LoraSettings(rank=4, alpha=8),
            full=full,
        ),
        precision="fp32",
        tool_lists=1,
        evaluate_every=1000,
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
    for phase in (1, 2):
        lines = [logs.read(tmp_path / n / f"phase{phase}") for n in ("one", "two")]
        for line, other in zip(*lines, strict=True):
            assert {**other, "seconds": 0} == pytest.approx({**line, "seconds": 0}, rel=1e-3)


def _without_marks(turns):
    return [replace(t, content=t.content.replace("<image>\n", "")) for t in turns]
