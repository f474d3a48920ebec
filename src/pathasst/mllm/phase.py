"""One phase of the training as a `Task`: packed rows, their loss, the loss on the split val. Knows no files."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from pathasst.mllm.layouts import PatchTokens
from pathasst.mllm.model import Parts
from pathasst.mllm.pack import PicturePlace, Row, Sample, build_row, plan
from pathasst.mllm.packed_loss import features_of, row_loss
from pathasst.mllm.settings import PhaseSettings
from pathasst.training import Task, TrainingSettings
from pathasst.training.loop import processes


class _RowLoss(nn.Module):
    """The summed loss of a row as a module's forward, so that several processes can train it. The tower is no part of it."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.parts = parts
        self.projector, self.llm, self.lm_head = parts.projector, parts.llm, parts.model.lm_head
        self._no_split_modules = sorted({type(layer).__name__ for layer in parts.llm.layers})  # what FSDP shards one by one

    def forward(self, row: Row, pictures: PatchTokens) -> torch.Tensor:
        return row_loss(self.parts, row, pictures)


class PhaseTask(Task):
    """What `parts` learns in one phase is what requires a gradient. `table`: vision features, squares × patches × width, in which
    each picture has its place."""

    def __init__(
        self,
        number: int,
        phase: PhaseSettings,
        parts: Parts,
        table: torch.Tensor,
        samples: Sequence[Sample],
        val: Sequence[Sample],
        *,
        places: Sequence[PicturePlace] = (),
        seed: int,
        checkpointing: bool = False,
    ) -> None:
        super().__init__(_RowLoss(parts))
        self.phase, self.parts, self.table, self.samples = phase, parts, table, samples
        self.places, self.checkpointing = places, checkpointing
        rows: list[list[int]] = []
        for epoch in range(math.ceil(phase.epochs)):
            planned = plan(samples, phase.row_tokens, seed * 1000 + number * 100 + epoch)
            rows += planned[: math.ceil(len(planned) * min(1.0, phase.epochs - epoch))]
        self.steps = [rows[n : n + phase.batch] for n in range(0, len(rows), phase.batch)]
        self.val_rows = [build_row([val[n] for n in row]) for row in plan(val, phase.row_tokens, 0)]

    def batch(self, step: int, places: range) -> list[tuple[Row, PatchTokens, float]]:
        """Rows, features of their pictures, and weights: the loss of a step is the mean over all of its supervised tokens.

        A place beyond the step's rows gets a row that weighs nothing, so that every process computes equally many.
        """
        members = self.steps[step]
        count = sum(int(self.samples[n].mask.sum()) for row in members for n in row)
        rows = [(members[place], 1.0) if place < len(members) else (members[0], 0.0) for place in places]
        packed = [(build_row([self.samples[n] for n in row]), weight) for row, weight in rows]
        return [(row, features_of(row, self.table, self.places), weight / count) for row, weight in packed]

    def loss(self, model: nn.Module, batch: Any) -> dict[str, torch.Tensor]:
        # The step descends the mean of all parts' losses, and is to descend their sum.
        parts = -(-self.phase.batch // processes().num_processes) * processes().num_processes
        loss = torch.stack([model(row, pictures) * weight for row, pictures, weight in batch]).sum() * parts
        tokens = sum(int(row.targets.sum()) for row, _, weight in batch if weight)
        return {"loss": loss, "supervised_tokens": torch.tensor(float(tokens * parts), device=loss.device)}

    def optimizer(self, settings: TrainingSettings) -> torch.optim.Optimizer:
        """The projector with its own rate, and what is trained of the LLM."""
        projector = [p for p in self.parts.projector.parameters() if p.requires_grad]
        ids = {id(p) for p in projector}
        rest = [p for p in self.model.parameters() if p.requires_grad and id(p) not in ids]
        groups = [{"params": projector, "lr": self.phase.projector_lr}, *([{"params": rest, "lr": settings.lr}] if rest else [])]
        return torch.optim.AdamW(groups, lr=settings.lr, betas=(0.9, 0.99), weight_decay=settings.weight_decay, foreach=False)

    def train_mode(self, model: nn.Module) -> None:
        """The LLM stays in evaluation mode, without dropout, but where its layers are computed again in the backward pass."""
        model.eval()
        if self.checkpointing:
            self.parts.llm.train()

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """The mean loss a supervised token on the split val."""
        if not self.val_rows:
            return {}
        total = sum(float(model(row, features_of(row, self.table, self.places))) for row in self.val_rows)
        return {"val_loss": total / max(1, sum(int(row.targets.sum()) for row in self.val_rows))}


def chosen(samples: Sequence[Sample], phase: PhaseSettings, take: Mapping[Any, int], seed: int) -> list[Sample]:
    """The samples of a phase: of each kind as many as `take` says, drawn by the seed."""
    some: list[Sample] = []
    for kind, most in take.items():
        of_kind = [s for s in samples if s.kind == kind and (s.paper or phase.subset != "paper")]
        fitting = [s for s in of_kind if s.supervised <= (phase.max_supervised or math.inf)]
        random.Random(seed).shuffle(fitting)
        some += fitting[: most or None]
    return some
