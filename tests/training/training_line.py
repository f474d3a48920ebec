"""A small regression that trains in milliseconds; as a script it trains in processes of its own:

python training_line.py OUT name=value …
"""

import os
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from pathasst.training import Task, TrainingSettings, fit
from pathasst.training.loop import processes


class Small(TrainingSettings):
    """Settings of the small task."""

    room: ClassVar[str] = "small"
    width: int = 8


class Line(Task):
    """y = sin(3x) by a two-layer network with dropout and batch norm."""

    best = "score"

    def __init__(self, settings: Small, dropout: float = float(os.environ.get("DROPOUT", "0.2"))) -> None:
        torch.manual_seed(settings.seed)
        width = settings.width
        super().__init__(nn.Sequential(nn.Linear(1, width), nn.Tanh(), nn.Dropout(dropout), nn.Linear(width, 1)))
        self.settings = settings
        self.evaluations = 0

    def batch(self, step: int, places: range) -> Any:
        x = np.array([np.random.default_rng((self.settings.seed, step, p)).uniform(-1, 1) for p in places], np.float32)[:, None]
        return torch.from_numpy(x), torch.from_numpy(np.sin(3 * x))

    def loss(self, model: nn.Module, batch: Any) -> dict[str, torch.Tensor]:
        x, y = batch
        error = (model(x) - y).square()
        return {"loss": error.mean(), "largest": error.max()}

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        self.evaluations += 1
        x = torch.linspace(-1, 1, 50)[:, None]
        return {"score": -float((model(x).detach() - torch.sin(3 * x)).square().mean())}


DEFAULTS = {
    "steps": 60,
    "batch": 8,
    "lr": 0.02,
    "ema": 0.9,
    "save_every": 10,
    "evaluate_every": 20,
    "workers": 0,
    "device": "cpu",
}


if __name__ == "__main__":
    chosen = Small.of(DEFAULTS, sys.argv[2:])
    task = Line(chosen)
    assert processes("cpu").num_processes == int(
        os.environ.get("PROCESSES", "1")
    )  # a launcher may start fewer than it is asked for
    fit(task, chosen, Path(sys.argv[1]))
    if int(os.environ.get("RANK", "0")) == 0:
        torch.save(task.model.state_dict(), Path(sys.argv[1]) / "weights.pt")
