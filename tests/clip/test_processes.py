"""PathCLIP in two processes. `torchrun` itself starts the two processes of tests/training; here they are forked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pathasst.clip.settings import ClipTraining
from pathasst.clip.train import train


def test_two_processes_train_the_model_of_one(
    recipe_values: dict, tmp_path: Path, forked: Callable[..., list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gathered features, true captions of all processes as targets, averaged gradients; stopped after 4 steps, and resumed."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    settings = ClipTraining(**recipe_values)
    train(settings, tmp_path / "one")

    def in_two_processes() -> None:
        from accelerate.state import AcceleratorState

        from pathasst.training.loop import processes

        AcceleratorState._reset_state(reset_partial_state=True)  # of the process that they were forked from
        assert processes("cpu").num_processes == 2
        train(settings, tmp_path / "two", stop_at=4)
        train(settings, tmp_path / "two")

    assert forked(in_two_processes, processes=2) == [0, 0]
    one, two = (load_file(tmp_path / f / "model.safetensors") for f in ("one", "two"))
    assert one.keys() == two.keys()
    for key in one:
        torch.testing.assert_close(two[key].float(), one[key].float(), atol=2e-3, rtol=0)
    losses = [[json.loads(line)["loss"] for line in (tmp_path / f / "log.jsonl").open()][-1] for f in ("one", "two")]
    assert losses[0] == pytest.approx(losses[1], abs=2e-3)
