"""What a model brings to be trained. Knows no loop.

class Classify(Task):
    best = "accuracy"

    def batch(self, step, places):
        return pictures_and_labels(step, places)              # random choices follow from (seed, step, place)

    def loss(self, model, batch):
        pictures, labels = batch
        return {"loss": F.cross_entropy(model(pictures), labels)}

    def evaluate(self, model):
        return {"accuracy": accuracy(model, self.val)}
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from pathasst.training.settings import TrainingSettings


class Task(ABC):
    """A model, the batch of each step, and the loss."""

    best: str = ""
    """Which value of `evaluate` chooses the best weights, the higher the better; empty: the last weights are kept."""
    unused_parameters: bool = False
    """Whether some trained weights get no gradient in some steps (several processes must know)."""
    data: str = ""
    """What the data is, such as a fingerprint: a training resumes on the same data only."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    @abstractmethod
    def batch(self, step: int, places: range) -> Any:
        """The examples at `places` (of 0 … settings.batch) of a step, as tensors or containers of tensors on the CPU.

        Every random choice follows from (seed, step, place) alone, so that a resumed training, an accumulated batch and several
        processes see the same examples. Called in worker processes.
        """

    @abstractmethod
    def loss(self, model: nn.Module, batch: Any) -> dict[str, torch.Tensor]:
        """Scalars by name: `loss`, the mean over the examples, is descended; others are only logged.

        `model` is `self.model` as it is wrapped for precision and several processes: call it, not its parts. `batch` is on the
        device. The step descends the mean of its parts' losses; a loss normalised otherwise must carry its own factor.
        """

    def optimizer(self, settings: TrainingSettings) -> torch.optim.Optimizer:
        """AdamW over all weights that require a gradient. The learning rates of its groups are the highest ones."""
        trained = [p for p in self.model.parameters() if p.requires_grad]
        return torch.optim.AdamW(trained, lr=settings.lr, weight_decay=settings.weight_decay)

    def train_mode(self, model: nn.Module) -> None:
        """Put the model into training mode before a step."""
        model.train()

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Scores on the split val of the averaged weights (the present ones without `ema`); `model` is in eval mode, unwrapped.

        Every process calls it, at `evaluate_every` and at the end. Empty: nothing is measured.
        """
        return {}


def two_rates(model: nn.Module, slow: Iterable[nn.Parameter], settings: TrainingSettings, rate: float) -> torch.optim.Optimizer:
    """AdamW over all weights that require a gradient: those of `slow` at `rate` times the learning rate, the others at it."""
    ids = {id(p) for p in slow}
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if id(p) in ids], "lr": settings.lr * rate},
        {"params": [p for p in trained if id(p) not in ids], "lr": settings.lr},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], weight_decay=settings.weight_decay)
