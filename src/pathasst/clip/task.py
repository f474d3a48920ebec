"""The contrastive training of a CLIP as a `Task`: the batch of a step, its losses, the evaluation. Knows no files.

Every choice of a step is drawn from (seed, step) by each process alike, and each prepares its own places: one process and many
train the same model up to the order of sums. With `accumulate`, captions are told apart within each part.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.functional import mse_loss

from pathasst.clip.augment import Box, cut, random_box, recolour, stain_matrices, turn
from pathasst.clip.build import ClipConfig
from pathasst.clip.captions import Captions
from pathasst.clip.data import Pictures, TrainingImage, sampling
from pathasst.clip.distill import TeacherFeatures, heads
from pathasst.clip.eval_callback import ValScores
from pathasst.clip.loss import TrueCaptionsLoss
from pathasst.clip.model import PathCLIPModel
from pathasst.clip.settings import ClipTraining
from pathasst.clip.student import Student
from pathasst.core.errors import BadSettings
from pathasst.core.files import fingerprint
from pathasst.training import Task, TrainingSettings
from pathasst.training.loop import processes

LARGEST_SCALE = math.log(100)  # of the logits, as OpenCLIP has it


class Batch(NamedTuple):
    """This process's places of a step; `truth` is of all processes."""

    patches: torch.Tensor  # float32 [n, k, 3·p·p], normalised
    patch_indices: torch.Tensor  # int64 [n, k], places in the grid
    rows: list[int]  # of `Captions`: n of the pictures, then those of `anchors`; none in steps that only distil
    truth: torch.Tensor  # bool [N, N + anchors]
    students: torch.Tensor  # int64 [t], the pictures of this part for which there are targets
    targets: tuple[torch.Tensor, torch.Tensor] | None  # float32 [t, k, dims], [t, dims]


class _Crop(NamedTuple):
    picture: int
    box: Box
    pose: int  # of `turn`
    view: int = -1  # which of the teacher's crops; −1: another one


class ClipTask(Task):
    """`pictures` have captions; `further` are only distilled.

    `lit_features` are those of a locked tower for the pictures, float16 [pictures, views, d], which then stand for their pixels.
    """

    def __init__(
        self,
        settings: ClipTraining,
        clip: nn.Module,
        config: ClipConfig,
        pictures: Pictures,
        texts: Captions,
        *,
        further: Sequence[TrainingImage] = (),
        teacher: TeacherFeatures | None = None,
        lit_features: np.ndarray | None = None,
        val_scores: ValScores | None = None,
    ) -> None:
        reads = heads(int(config.model["vision_cfg"]["width"]), teacher) if teacher is not None else None
        super().__init__(Student(clip, reads, texts))
        self.settings, self.clip, self.config, self.pictures, self.texts = settings, clip, config, pictures, texts
        self.teacher, self.lit_features, self.val_scores = teacher, lit_features, val_scores
        self.best, self.unused_parameters = settings.best, reads is not None
        self.all = [*pictures.images, *further]
        self.odds = pictures.sampling(settings.balance, settings.shares)
        self.distill_odds = sampling(self.all, settings.distill.balance)
        self.rows_of: dict[str, list[int]] = {}
        for row, concept in enumerate(pictures.concepts):
            if concept:
                self.rows_of.setdefault(concept, []).append(row)
        self.data = fingerprint({"pictures": [p.md5 for p in self.all], "texts": pictures.texts})

    def batch(self, step: int, places: range) -> Batch:
        settings, distill = self.settings, self.settings.distill
        rng = np.random.default_rng([settings.seed, step])
        distil_only = step < distill.steps
        odds = self.distill_odds if distil_only else self.odds
        sampled = rng.choice(len(odds), settings.batch, p=odds).tolist()
        size = settings.batch // settings.accumulate
        part = slice(places.start // size * size, (places.start // size + 1) * size)  # of all processes together
        own = slice(places.start, places.stop)
        rows: list[int] = []
        anchors: list[int] = []
        truth = np.zeros((size, 0), bool)
        if not distil_only:
            rows = [int(rng.choice(self.pictures.captions(n))) for n in sampled]
            anchors = [int(rng.choice(r)) for r in self.rows_of.values()] if settings.anchors else []
            truth = self.pictures.truth(sampled[part], rows[part] + anchors)
        # Beside captions every other picture is a crop that passed the teacher; the rest are new crops.
        every = 0 if self.teacher is None else 1 if distil_only else 2 if distill.weight else 0
        crops = [self._crop(c, bool(every) and place % every == 0, rng) for place, c in enumerate(sampled)]
        patches, patch_indices = self.patches(crops, own, step, rng)
        students = [place for place, crop in enumerate(crops[own]) if crop.view >= 0]
        targets = None
        if self.teacher is not None and students:
            views = [(c.picture, c.view, c.pose) for c in (crops[own][t] for t in students)]
            of_patches, of_pooled = self.teacher.targets(views, patch_indices[students])
            targets = (torch.from_numpy(of_patches), torch.from_numpy(of_pooled))
        windows = self.texts.draw(rows[own] + anchors, rng) if rows else []
        tensors = (torch.from_numpy(patches), torch.from_numpy(patch_indices), torch.from_numpy(truth))
        return Batch(*tensors[:2], windows, tensors[2], torch.tensor(students, dtype=torch.long), targets)

    def _crop(self, picture: int, of_teacher: bool, rng: np.random.Generator) -> _Crop:
        pose = int(rng.integers(8))
        if of_teacher and self.teacher is not None:
            view = int(rng.integers(self.teacher.boxes.shape[1]))
            return _Crop(picture, self.teacher.box(picture, view), pose, view)
        return _Crop(picture, random_box(rng, self.settings.smallest), pose)

    def patches(self, crops: list[_Crop], own: slice, step: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Of the crops `own`: augmented, normalised patches float32 [n, k, 3·p·p] and their places int64 [n, k] in the grid.

        Of a locked tower: one of its features, [n, 1, d].
        """
        size, patch = self.config.image_size, self.config.patch_size
        grid = size // patch
        if self.lit_features is not None:
            views = rng.integers(self.lit_features.shape[1], size=len(crops))
            rows = [(c.picture, v) for c, v in zip(crops, views, strict=True)][own]
            return np.stack([self.lit_features[p, v] for p, v in rows])[:, None].astype(np.float32), np.zeros((len(rows), 1), int)
        keep = max(1, round(self.settings.keep_patches * grid * grid)) if step < 0.9 * self.settings.steps else grid * grid
        patch_indices = np.sort(rng.random((len(crops), grid * grid)).argsort(axis=1)[:, :keep], axis=1)[own]
        matrices, tints = stain_matrices(len(crops), rng, self.settings.stain)
        pixels = np.stack([turn(cut(self.all[c.picture].pixels, c.box, size), c.pose) for c in crops[own]])
        n = len(pixels)
        patches = pixels.reshape(n, grid, patch, grid, patch, 3).transpose(0, 1, 3, 2, 4, 5).reshape(n, grid * grid, -1)
        patches = np.take_along_axis(patches, patch_indices[:, :, None], axis=1).reshape(n, -1, 3)
        colour = recolour(patches, matrices[own], tints[own])
        colour -= np.asarray(self.config.mean, np.float32)
        colour /= np.asarray(self.config.std, np.float32)
        colour = colour.reshape(n, keep, patch * patch, 3).swapaxes(2, 3)
        return np.ascontiguousarray(colour).reshape(n, keep, 3 * patch * patch), patch_indices

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        """`contrast` over the captions of all processes, `distill` over this one's pictures."""
        self.limit_scale()
        features = model(batch.patches, batch.patch_indices, batch.rows, batch.students)
        losses: dict[str, torch.Tensor] = {}
        weight = self.settings.distill.weight if batch.rows else 1.0
        total = torch.zeros((), device=batch.patches.device)
        if batch.targets is not None:
            of_patches, of_pooled = batch.targets
            errors = mse_loss(features["patches"].float(), of_patches) + mse_loss(features["pooled"].float(), of_pooled)
            losses["distill"] = errors / 2
            total = total + weight * losses["distill"]
        if batch.rows:
            world, text, n = processes(self.settings.device), features["text"].float(), len(features["image"])
            contrast = TrueCaptionsLoss(world.process_index, world.num_processes)
            losses["contrast"] = contrast(
                features["image"], text[:n], features["scale"], batch.truth, text[n:], features.get("bias")
            )
            total = total + losses["contrast"]
        return {"loss": total, **losses}

    def limit_scale(self) -> None:
        """Keep the scale of the logits where OpenCLIP keeps it."""
        with torch.no_grad():
            self.clip.logit_scale.clamp_(0, LARGEST_SCALE)  # type: ignore[operator, union-attr]

    def optimizer(self, settings: TrainingSettings) -> torch.optim.Optimizer:
        """AdamW; gains, biases and the logit scale without weight decay, as OpenCLIP does."""
        named = [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]
        plain = [p for n, p in named if p.ndim < 2 or "ln_" in n or "logit_scale" in n]
        decayed = [p for n, p in named if not (p.ndim < 2 or "ln_" in n or "logit_scale" in n)]
        groups = [{"params": plain, "weight_decay": 0.0}, {"params": decayed, "weight_decay": settings.weight_decay}]
        return torch.optim.AdamW(groups, lr=settings.lr, betas=(0.9, 0.98), eps=1e-6)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Macro F1 of the zero-shot tasks and R@10 on the split val, and their mean; the first process alone measures."""
        if self.val_scores is None or not processes(self.settings.device).is_main_process:
            return {}
        scores = self.val_scores(PathCLIPModel(self.clip, self.config))
        scores |= {"mean": float(np.mean(list(scores.values())))} if scores else {}
        if self.best and self.best not in scores:
            raise BadSettings(f"best: the evaluation has no score {self.best!r}; it has {', '.join(scores) or 'none'}.")
        return scores
