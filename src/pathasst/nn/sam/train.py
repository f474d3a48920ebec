"""Tuning a SAM to the user's own objects: its mask decoder alone, on pictures embedded once (Ma et al. 2024 tune MedSAM so).

Knows labelled objects and prompts, not file formats. What is learnt is small: `mask_decoder.safetensors`, with the name of the
network that it belongs to in its header.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from pathasst.core import weights
from pathasst.core.errors import BadDataset
from pathasst.core.files import fingerprint
from pathasst.core.settings import Field
from pathasst.imaging.annotations import group_of
from pathasst.nn.sam.masks import Object, Outlined, usable
from pathasst.nn.sam.model import DECODER, LOW, SIDE, ImageEmbedding, Sam
from pathasst.nn.sam.overlaps import inner_point, overlaps
from pathasst.training import Task, TrainingSettings, fit
from pathasst.training.settings import BatchSize, Every, LearningRate, Precision, Share, Steps, WeightDecay

Log = Callable[[dict[str, Any]], None]


class SegmentTraining(TrainingSettings):
    """How the mask decoder is tuned."""

    room: ClassVar[str] = "segment"
    renamed: ClassVar[dict[str, str]] = {**TrainingSettings.renamed, "model": "start", "validation": "val"}

    start: str = Field(default="mobilesam", description="Id or folder of what is tuned.")
    steps: Steps = 300
    batch: BatchSize = 1
    prompts: int = Field(default=8, ge=1, description="Objects of a picture in a step, each asked for by a box or a point.")
    lr: LearningRate = 1e-4
    weight_decay: WeightDecay = 1e-4
    precision: Precision = "fp32"
    jitter: float = Field(default=0.1, ge=0, description="How far a box's sides may be moved, in its own sides.")
    points: Share = Field(default=0.5, description="Share of the pictures that are asked by points instead of boxes.")
    val: float = Field(
        default=0.2, ge=0, lt=1, description="Share of the groups that is not trained on, where the labels name no split."
    )
    group: str = Field(
        default="", description="Regular expression; its first group is the patient in a file name. Empty: the picture."
    )
    save_every: int = Field(default=50, ge=1, description="Steps between checkpoints.")
    evaluate_every: Every = Field(
        default=0,
        description="Steps between measurements of IoU on the split val, which choose the weights. 0: the last ones are kept.",
    )
    workers: int = Field(default=0, ge=0, le=0, description="Pictures are embedded in the process that trains.")


def train(settings: SegmentTraining, pictures: Sequence[Outlined], out: Path, log: Log | None = None) -> dict[str, Any]:
    """Tune, and measure before and after on the pictures kept back. Interrupted trainings resume with the same call.

    Writes `mask_decoder.safetensors`, `scores.json` and what `training.fit` writes. Returns the scores: of `before` and `after`,
    as `Overlaps` has them, their `gain`, and why pictures were `skipped`. Raises BadDataset when no picture is left to train on.
    """
    from safetensors.torch import save_file

    out.mkdir(parents=True, exist_ok=True)
    pictures, skipped = usable(pictures)
    if log:
        for reason in skipped:
            log({"left out": reason})
    train_pictures, val = _parts(settings, pictures)
    sam = Sam(weights.path(settings.start), cache_size=1)
    before = overlaps(sam, val, settings.group)
    trained = fit(SegmentTask(settings, sam, train_pictures, val), settings, out, log=log)
    state = {k: v.detach().cpu().contiguous() for k, v in sam.network.mask_decoder.state_dict().items()}
    save_file(state, out / DECODER, {"base": settings.start})
    scores: dict[str, Any] = {"pictures": len(train_pictures), "skipped": skipped}
    if val:
        after = overlaps(sam, val, settings.group)
        scores |= {"val": len(val), "before": before.plain(), "after": after.plain(), "gain": after.gain(before)}
    (out / "scores.json").write_text(json.dumps({"scores": scores, "settings": settings.plain()}, indent=1), encoding="utf-8")
    trained.remove_checkpoints()
    return scores


class _Decode(nn.Module):
    """A SAM's `decode` as a module's forward, so that several processes can train it."""

    def __init__(self, sam: Sam) -> None:
        super().__init__()
        self.network, self.decode = sam.network, sam.decode

    def forward(self, *arguments: Any, **options: Any) -> Any:
        return self.decode(*arguments, **options)


class SegmentTask(Task):
    """The mask decoder on pictures embedded once; the last weights are kept, or with `evaluate_every` the best on `val`."""

    unused_parameters = True  # boxes and points pass by different weights

    def __init__(self, settings: SegmentTraining, sam: Sam, pictures: Sequence[Outlined], val: Sequence[Outlined] = ()) -> None:
        torch.manual_seed(settings.seed)
        sam.network.requires_grad_(False)
        sam.network.mask_decoder.requires_grad_(True)
        super().__init__(_Decode(sam))
        self.settings, self.sam, self.pictures, self.val = settings, sam, pictures, val
        self.best = "iou" if settings.evaluate_every and val else ""
        self.embedded: dict[int, tuple[ImageEmbedding, list[Object]]] = {}  # 2 MB a picture
        self.data = fingerprint({"pictures": [p.name for p in pictures]})

    def batch(self, step: int, places: range) -> list[tuple[int, int]]:
        return [(step, place) for place in places]

    def loss(self, model: nn.Module, batch: Any) -> dict[str, torch.Tensor]:
        losses = []
        for step, place in batch:
            rng = np.random.default_rng((self.settings.seed, step, place))
            index = int(rng.integers(len(self.pictures)))
            if index not in self.embedded:
                self.embedded[index] = _embed(self.sam, self.pictures[index])
            embedding, objects = self.embedded[index]
            rows = rng.choice(len(objects), min(self.settings.prompts, len(objects)), replace=False)
            full_precision = replace(embedding, features=embedding.features.float())
            losses.append(_loss(self.sam, model, full_precision, [objects[i] for i in rows], self.settings, rng))
        return {"loss": torch.stack(losses).mean()}

    def train_mode(self, model: nn.Module) -> None:
        """Norms stay as they were trained."""
        model.eval()

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Mean IoU of what boxes and points ask for on val."""
        if not self.best:
            return {}
        result = overlaps(self.sam, self.val, self.settings.group)
        return {"iou": float(np.mean([*result.box, *result.point]))}


def _parts(settings: SegmentTraining, pictures: Sequence[Outlined]) -> tuple[list[Outlined], list[Outlined]]:
    """Pictures to train on, and those kept back: as the labels say, else whole groups by chance."""
    if any(p.split for p in pictures):
        train, val = ([p for p in pictures if (p.split == "train") is is_train] for is_train in (True, False))
    else:
        groups = sorted({group_of(p.name, settings.group) for p in pictures})
        n = round(settings.val * len(groups))
        away = {groups[i] for i in np.random.default_rng(settings.seed).permutation(len(groups))[:n]}
        train, val = ([p for p in pictures if (group_of(p.name, settings.group) in away) is out] for out in (False, True))
    if not train:
        raise BadDataset("no picture is left to train on; lower `val`, or name the split train.")
    return train, val


def _embed(sam: Sam, picture: Outlined) -> tuple[ImageEmbedding, list[Object]]:
    image, objects = picture.read()
    embedding = sam.set_image(image)
    # A copy outside of inference mode, which gradients may pass by; in half precision, as many of them are kept.
    return replace(embedding, features=embedding.features.clone().half()), objects


def _loss(
    sam: Sam,
    model: nn.Module,
    embedding: ImageEmbedding,
    objects: Sequence[Object],
    settings: SegmentTraining,
    rng: np.random.Generator,
) -> torch.Tensor:
    """Focal and Dice loss of the asked masks, and the squared error of the IoU that is foretold (SAM, appendix A)."""
    by_point = rng.random() < settings.points
    if by_point:
        points = np.array([inner_point(o, rng) for o in objects])[:, None]
        logits, foretold = model(embedding, sam.place(embedding, points), None, several=True)
    else:
        corners = np.array([_shaken(o.box, settings.jitter, rng) for o in objects], np.float32)
        boxes = sam.place(embedding, corners.reshape(-1, 2)).reshape(-1, 4)
        logits, foretold = model(embedding, None, boxes, several=False)
    height, width = (max(-(-s * LOW // SIDE), 1) for s in embedding.inner)
    logits = logits[..., :height, :width]
    target = torch.from_numpy(np.stack([_low(o, embedding, height, width) for o in objects]))[:, None].to(logits)
    probability = logits.sigmoid()
    plain = F.binary_cross_entropy_with_logits(logits, target.expand_as(logits), reduction="none")
    focal = (plain * (probability - target).abs() ** 2).mean((2, 3))
    dice = 1 - (2 * (probability * target).sum((2, 3)) + 1) / ((probability + target).sum((2, 3)) + 1)
    with torch.no_grad():
        predicted, true = logits > 0, target > 0.5
        iou = (predicted & true).sum((2, 3)) / (predicted | true).sum((2, 3)).clamp(min=1)
    each = 20 * focal + dice + (foretold - iou) ** 2
    return each.min(1).values.mean()  # of a point's three masks the one that fits: the others may mean parts or more


def _shaken(box: tuple[int, int, int, int], jitter: float, rng: np.random.Generator) -> np.ndarray:
    sides = np.array([box[2] - box[0], box[3] - box[1]] * 2, float)
    return np.asarray(box, float) + rng.uniform(-jitter, jitter, 4) * sides


def _low(one: Object, embedding: ImageEmbedding, height: int, width: int) -> np.ndarray:
    """The object's share of each cell of the network's small mask, float32."""
    import cv2

    mask = one.full_mask(embedding.height, embedding.width).astype(np.float32)
    return np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA))
