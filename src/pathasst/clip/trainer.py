"""The steps of a training: batches drawn from (seed, step), losses, optimiser.

Knows pictures, captions and the lessons of a teacher; knows no files. On several processes each draws the same choices and
prepares its own part of the batch, so that one process and many train the same model up to the order of sums.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pathasst.clip.augment import Box, cut, random_box, recolour, stain_matrices, turn
from pathasst.clip.build import ClipConfig
from pathasst.clip.captions import Captions
from pathasst.clip.data import Pictures, Shown, sampling
from pathasst.clip.distill import Lessons
from pathasst.clip.processes import Processes
from pathasst.core.hardware import has_fast_bfloat16

if TYPE_CHECKING:
    import torch
    from torch import nn

    from pathasst.clip.train import ClipRecipe


@dataclass(frozen=True, slots=True)
class Batch:
    """This process's part of a step, as tensors; `truth` is of all processes."""

    patches: torch.Tensor  # float32 [n, k, 3·p·p], normalised
    kept: torch.Tensor  # int64 [n, k], places in the grid
    rows: list[int]  # of `Captions`: n of the pictures, then those of `anchors`; none in steps that only distil
    truth: torch.Tensor  # bool [N, N + anchors]
    taught: torch.Tensor  # int64 [t], the pictures of this part for which there are targets
    targets: tuple[torch.Tensor, torch.Tensor] | None  # float32 [t, k, dims], [t, dims]


@dataclass(frozen=True, slots=True)
class _Crop:
    picture: int
    box: Box
    pose: int  # of `turn`
    view: int = -1  # which of the teacher's crops; −1: one the teacher never saw


class Steps:
    """One optimiser step after another. `pictures` have captions; `further` are only taught.

    `locked` are the features of a locked tower for the pictures, float16 [pictures, views, d], which then stand for their pixels.
    """

    def __init__(
        self,
        recipe: ClipRecipe,
        model: nn.Module,
        config: ClipConfig,
        pictures: Pictures,
        texts: Captions,
        *,
        further: list[Shown] | None = None,
        lessons: Lessons | None = None,
        heads: nn.ModuleDict | None = None,
        locked: np.ndarray | None = None,
        processes: Processes | None = None,
    ) -> None:
        from pathasst.clip.loss import TrueCaptionsLoss
        from pathasst.clip.student import Student

        self.recipe, self.config, self.pictures, self.texts = recipe, config, pictures, texts
        self.processes = processes or Processes()
        self.model, self.heads, self.lessons, self.locked = model, heads, lessons, locked
        student = Student(model, heads, texts).to(self.processes.device)
        self.student = self.processes.together(student, unused=heads is not None)
        self.loss = TrueCaptionsLoss(self.processes.rank, self.processes.world)
        self.optimiser = optimiser_of(student, recipe.lr, recipe.weight_decay)
        self.all = [*pictures.shown, *(further or [])]
        self.odds = pictures.sampling(recipe.balance)
        self.teaching_odds = sampling(self.all, recipe.teach.balance)
        self.rows_of: dict[str, list[int]] = {}
        for row, concept in enumerate(pictures.concepts):
            if concept:
                self.rows_of.setdefault(concept, []).append(row)

    def run(self, first: int, last: int) -> Iterator[dict[str, float]]:
        """The losses of the steps `first` … `last`; the next batches are prepared by `workers` threads meanwhile."""
        ahead = self.recipe.workers
        with ThreadPoolExecutor(ahead) as pool:
            batches = {n: pool.submit(self.prepare, n) for n in range(first, min(first + ahead, last))}
            for number in range(first, last):
                if number + ahead < last:
                    batches[number + ahead] = pool.submit(self.prepare, number + ahead)
                yield self.step(number, batches.pop(number).result())

    def prepare(self, number: int) -> Batch:
        """The batch of a step, every choice drawn from (seed, step)."""
        import torch

        chance = np.random.default_rng([self.recipe.seed, number])
        only_taught = number < self.recipe.teach.steps
        odds = self.teaching_odds if only_taught else self.odds
        chosen = chance.choice(len(odds), self.recipe.batch, p=odds).tolist()
        mine = self.processes.share(len(chosen))
        rows: list[int] = []
        anchors: list[int] = []
        truth = np.zeros((len(chosen), 0), bool)
        if not only_taught:
            rows = [int(chance.choice(self.pictures.captions(n))) for n in chosen]
            anchors = [int(chance.choice(r)) for r in self.rows_of.values()] if self.recipe.anchors else []
            truth = self.pictures.truth(chosen, rows + anchors)
        # Beside captions every other picture is a crop that the teacher knows; the rest are new crops.
        every = 0 if self.lessons is None else 1 if only_taught else 2 if self.recipe.teach.weight else 0
        crops = [self._crop(c, bool(every) and place % every == 0, chance) for place, c in enumerate(chosen)]
        patches, kept = self.patches(crops, mine, number, chance)
        taught = [place for place, crop in enumerate(crops[mine]) if crop.view >= 0]
        targets = None
        if self.lessons is not None and taught:
            seen = [(c.picture, c.view, c.pose) for c in (crops[mine][t] for t in taught)]
            of_patches, of_pooled = self.lessons.targets(seen, kept[taught])
            targets = (torch.from_numpy(of_patches), torch.from_numpy(of_pooled))
        drawn = self.texts.draw(rows[mine] + anchors, chance) if rows else []
        patches_, kept_, truth_ = (torch.from_numpy(a) for a in (patches, kept, truth))
        return Batch(patches_, kept_, drawn, truth_, torch.tensor(taught, dtype=torch.long), targets)

    def _crop(self, picture: int, taught: bool, chance: np.random.Generator) -> _Crop:
        pose = int(chance.integers(8))
        if taught and self.lessons is not None:
            view = int(chance.integers(self.lessons.boxes.shape[1]))
            return _Crop(picture, self.lessons.box(picture, view), pose, view)
        return _Crop(picture, random_box(chance, self.recipe.smallest), pose)

    def patches(self, crops: list[_Crop], mine: slice, number: int, chance: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Of the crops `mine`: augmented, normalised patches float32 [n, k, 3·p·p] and their places int64 [n, k] in the grid.

        Of a locked tower: one of its features, [n, 1, d].
        """
        size, patch = self.config.image_size, self.config.patch_size
        grid = size // patch
        if self.locked is not None:
            views = chance.integers(self.locked.shape[1], size=len(crops))
            rows = [(c.picture, v) for c, v in zip(crops, views, strict=True)][mine]
            return np.stack([self.locked[p, v] for p, v in rows])[:, None].astype(np.float32), np.zeros((len(rows), 1), int)
        all_in = number >= 0.9 * self.recipe.steps
        keep = grid * grid if all_in else max(1, round(self.recipe.keep_patches * grid * grid))
        kept = np.sort(chance.random((len(crops), grid * grid)).argsort(axis=1)[:, :keep], axis=1)[mine]
        matrices, tints = stain_matrices(len(crops), chance, self.recipe.stain)
        pixels = np.stack([turn(cut(self.all[c.picture].pixels, c.box, size), c.pose) for c in crops[mine]])
        n = len(pixels)
        squares = pixels.reshape(n, grid, patch, grid, patch, 3).transpose(0, 1, 3, 2, 4, 5).reshape(n, grid * grid, -1)
        squares = np.take_along_axis(squares, kept[:, :, None], axis=1).reshape(n, -1, 3)
        colour = recolour(squares, matrices[mine], tints[mine])
        colour -= np.asarray(self.config.mean, np.float32)
        colour /= np.asarray(self.config.std, np.float32)
        colour = colour.reshape(n, keep, patch * patch, 3).swapaxes(2, 3)
        return np.ascontiguousarray(colour).reshape(n, keep, 3 * patch * patch), kept

    def step(self, number: int, batch: Batch) -> dict[str, float]:
        """One optimiser step; the loss and its parts, of this process."""
        import torch

        for group in self.optimiser.param_groups:
            group["lr"] = rate(self.recipe, number)
        self.student.train()
        device = self.processes.device
        bf16 = self.recipe.bf16 and has_fast_bfloat16(str(device))
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=bf16):
            seen = self.student(batch.patches.to(device), batch.kept.to(device), batch.rows, batch.taught.to(device))
        parts = self._losses(seen, batch)
        weight = self.recipe.teach.weight if batch.rows else 1.0
        loss = parts.get("contrast", 0.0) + weight * parts.get("taught", 0.0)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[union-attr]
        torch.nn.utils.clip_grad_norm_([p for p in self.student.parameters() if p.requires_grad], self.recipe.clip_norm)
        self.optimiser.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, math.log(100))  # type: ignore[operator, union-attr]
        return {"loss": float(loss.detach())} | {k: float(v.detach()) for k, v in parts.items()}  # type: ignore[union-attr]

    def _losses(self, seen: dict[str, torch.Tensor], batch: Batch) -> dict[str, torch.Tensor]:
        from torch.nn.functional import mse_loss

        parts: dict[str, torch.Tensor] = {}
        device = self.processes.device
        if batch.targets is not None:
            of_patches, of_pooled = (t.to(device) for t in batch.targets)
            parts["taught"] = (mse_loss(seen["patches"].float(), of_patches) + mse_loss(seen["pooled"].float(), of_pooled)) / 2
        if batch.rows:
            text, n = seen["text"].float(), len(seen["image"])
            parts["contrast"] = self.loss(seen["image"], text[:n], seen["scale"], batch.truth.to(device), text[n:])
        return parts


def rate(recipe: ClipRecipe, step: int) -> float:
    """Learning rate of a step: linear warm-up, then cosine to zero."""
    if step < recipe.warmup:
        return recipe.lr * (step + 1) / recipe.warmup
    share = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * share))


def optimiser_of(module: nn.Module, lr: float, weight_decay: float) -> Any:
    """AdamW; gains, biases and the logit scale without weight decay, as OpenCLIP does."""
    import torch

    named = [(n, p) for n, p in module.named_parameters() if p.requires_grad]
    plain = [p for n, p in named if p.ndim < 2 or "ln_" in n or "logit_scale" in n]
    decayed = [p for n, p in named if not (p.ndim < 2 or "ln_" in n or "logit_scale" in n)]
    groups = [{"params": plain, "weight_decay": 0.0}, {"params": decayed, "weight_decay": weight_decay}]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), eps=1e-6)
