from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pathasst.clip.settings import ClipTraining
from pathasst.clip.train import train

PROGRAM = """
import json, sys
import torch
torch.set_num_threads(1)
from pathasst.clip.settings import ClipTraining
from pathasst.clip.train import train
from pathasst.training.loop import processes
assert processes("cpu").num_processes == 2  # a launcher may start fewer than it is asked for
values = json.loads(sys.argv[1])
train(ClipTraining(**values), sys.argv[2], stop_at=4)
train(ClipTraining(**values), sys.argv[2])
"""


def launch(values: dict, out: Path) -> None:
    """Two processes on this machine's CPU, as a user starts them on two GPUs; stopped after 4 steps, and resumed."""
    program = out.with_suffix(".py")
    program.write_text(PROGRAM)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*launcher, str(program), json.dumps(values), str(out)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_two_processes_train_the_model_of_one(recipe_values: dict, tmp_path: Path) -> None:
    """Gathered features, true captions of all processes as targets, averaged gradients; stopped half-way and resumed."""
    launch(recipe_values, tmp_path / "two")
    train(ClipTraining(**recipe_values), tmp_path / "one")
    one, two = (load_file(tmp_path / f / "model.safetensors") for f in ("one", "two"))
    assert one.keys() == two.keys()
    for key in one:
        torch.testing.assert_close(two[key].float(), one[key].float(), atol=2e-3, rtol=0)
    losses = [[json.loads(line)["loss"] for line in (tmp_path / f / "log.jsonl").open()][-1] for f in ("one", "two")]
    assert losses[0] == pytest.approx(losses[1], abs=2e-3)
