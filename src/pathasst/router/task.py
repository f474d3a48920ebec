"""A router's training as a `Task`: the requests of each step, their loss, the share of requests of val whose tools are right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from pathasst.core.files import fingerprint
from pathasst.router.examples import Examples
from pathasst.router.infer import answers
from pathasst.router.items import RequestItem
from pathasst.router.network import padded, tool_vectors
from pathasst.training import Task


class RouterTask(Task):
    """One member network. Weights of choices, tags and reasons get no gradient in a step whose requests have none."""

    unused_parameters = True

    def __init__(self, member: nn.Module, examples: Examples, val: Sequence[RequestItem]) -> None:
        super().__init__(member)
        self.examples, self.val = examples, val
        self.best = "right" if val else ""
        self.data = fingerprint({"train": [_plain(i) for i in examples.items], "val": [_plain(i) for i in val]})

    def batch(self, step: int, places: range) -> dict[str, torch.Tensor]:
        """Padded float32 tokens and bool tags, where nothing stands, and the targets."""
        numbers, seed = self.examples.batch(step), self.examples.settings.seed
        batch = [  # the last step of an epoch has fewer requests: they come again, varied otherwise
            self.examples.varied(int(numbers[p % len(numbers)]), np.random.default_rng((seed, step, p))) for p in places
        ]
        tokens, nothing = padded([e.tokens for e in batch])
        tags, _ = padded([e.tags for e in batch])
        complete = torch.tensor([e.has_arguments for e in batch])
        fields = ("tools", "reasons", "choices", "before")
        targets = {name: torch.from_numpy(np.stack([getattr(e, name) for e in batch])) for name in fields}
        return {"tokens": tokens, "nothing": nothing, "tags": tags, "complete": complete, **targets}

    def loss(self, model: nn.Module, batch: Any) -> dict[str, torch.Tensor]:
        """Cross-entropy of the tools, of the reasons where they are known, and of choices and tags where the arguments are."""
        answered, tagged = model(batch["tokens"], batch["nothing"], batch["before"])
        complete, nothing, smoothing = batch["complete"], batch["nothing"], self.examples.settings.smoothing
        tools, reasons, choices = batch["tools"], batch["reasons"], batch["choices"]
        parts = answered.split([tools.shape[1], reasons.shape[1], choices.shape[1]], 1)
        loss = binary_cross_entropy_with_logits(parts[0], tools * (1 - 2 * smoothing) + smoothing)
        if (with_reason := reasons.any(1)).any():
            smooth = reasons[with_reason] * (1 - 2 * smoothing) + smoothing
            loss = loss + binary_cross_entropy_with_logits(parts[1][with_reason], smooth)
        if complete.any() and choices.shape[1]:
            loss = loss + binary_cross_entropy_with_logits(parts[2][complete], choices[complete])
        if complete.any() and tagged.shape[2]:
            some = ~nothing[complete]
            loss = loss + binary_cross_entropy_with_logits(tagged[complete][some], batch["tags"][complete][some])
        return {"loss": loss}

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Share of the requests of val whose tools are exactly right."""
        if not self.val:
            return {}
        predicted = chosen_tools(model, self.val, self.examples)
        return {"right": float(np.mean([set(p) == set(i.tools) for p, i in zip(predicted, self.val, strict=True)]))}


def chosen_tools(network: nn.Module, items: Sequence[RequestItem], examples: Examples) -> list[tuple[str, ...]]:
    """The tools whose probability reaches the config's threshold, of each item."""
    states, config = examples.states, examples.config
    before = tool_vectors([i.before for i in items], config.classes)
    rows, _ = answers(network, [states.of(i.text)[0] for i in items], before)
    likely = rows[:, : len(config.classes)] >= config.threshold
    return [tuple(c for c, yes in zip(config.classes, row, strict=True) if yes) for row in likely]


def _plain(item: RequestItem) -> tuple[Any, ...]:
    return (item.text, item.tools, item.before, item.reason, item.arguments)
