"""Training a P2PNet on points CSVs: `train(settings, out)` fits, chooses the thresholds, measures. Interrupted runs resume."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pathasst.core import weights
from pathasst.core.errors import BadInput
from pathasst.core.files import fingerprint
from pathasst.nn.checkpoints import load_matching
from pathasst.nn.p2pnet.data import Crops, LabelledField, read_fields, split_fields
from pathasst.nn.p2pnet.evaluate import MatchCounts, count, interval, labelling_index
from pathasst.nn.p2pnet.infer import CellDetector, Cells, load, save
from pathasst.nn.p2pnet.loss import PointLoss
from pathasst.nn.p2pnet.model import P2PNet
from pathasst.nn.p2pnet.settings import PointTraining
from pathasst.nn.pretrained import efficientnet_lite0
from pathasst.training import Task, TrainingSettings, fit
from pathasst.training.task import two_rates

Log = Callable[[dict[str, Any]], None]


def train(settings: PointTraining, out: Path, log: Log | None = None) -> dict[str, Any]:
    """Train, choose the thresholds on the split val, measure on the split test.

    Writes `model.safetensors`, `scores.json` and what `training.fit` writes. Interrupted trainings resume with the same call.
    Returns the scores. Raises BadDataset when there is no picture to train on.
    """
    splits: dict[str, list[LabelledField]] = {"train": [], "val": [], "test": []}
    for data in settings.data:
        for name, fields in split_fields(read_fields(data, settings.model.classes), data).items():
            splits[name] += fields
    task = PointTask(settings, splits["train"], splits["val"])
    trained = fit(task, settings, out, log=log)
    thresholds, _ = best_thresholds(CellDetector(task.network), splits["val"] or splits["train"])
    task.network.settings = settings.model.replace(min_score=thresholds)
    save(task.network, out)
    scores = {
        "thresholds": dict(zip(settings.model.classes, thresholds, strict=True)),
        **measure(CellDetector(load(out)), splits),
    }
    (out / "scores.json").write_text(json.dumps({"scores": scores, "settings": settings.plain()}, indent=1), encoding="utf-8")
    trained.remove_checkpoints()
    return scores


class PointTask(Task):
    """A P2PNet on random crops; the average of the last weights is kept, or with `evaluate_every` of the best on `val`."""

    def __init__(self, settings: PointTraining, fields: Sequence[LabelledField], val: Sequence[LabelledField] = ()) -> None:
        torch.manual_seed(settings.seed)
        network = P2PNet(settings.model)
        if settings.start:
            start_from(network, settings.start)
        self.network: P2PNet = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        super().__init__(self.network)
        self.settings, self.val = settings, val
        self.best = "f1" if settings.evaluate_every and val else ""
        # Pictures with more cells teach more, but a nearly empty one must still come up: the square root is between.
        self.crops = Crops(fields, [math.sqrt(len(f.points) + 5) for f in fields], settings)
        self.point_loss = PointLoss(settings.no_object, settings.point_weight, settings.match_distance)
        self.data = fingerprint({"fields": [(f.name, f.points.tolist(), f.labels.tolist()) for f in fields]})

    def batch(self, step: int, places: range) -> Any:
        """(images N×3×S×S uint8, points and labels of each)."""
        return self.crops.batch(step, places)

    def loss(self, model: nn.Module, batch: Any) -> dict[str, torch.Tensor]:
        images, points, labels = batch
        proposals = model(images.float().div_(255).contiguous(memory_format=torch.channels_last))
        losses = self.point_loss(proposals, points, labels)
        return {"loss": losses.total, "class": losses.classification, "px²": losses.point}

    def optimizer(self, settings: TrainingSettings) -> torch.optim.Optimizer:
        """The backbone with its own rate, and the rest."""
        return two_rates(self.network, self.network.backbone.parameters(), settings, self.settings.backbone_rate)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """What the best thresholds reach on val: the mean F1 of the classes, less the error of the labelling index."""
        return {"f1": best_thresholds(CellDetector(self.network), self.val)[1]} if self.best else {}


def start_from(model: P2PNet, start: str) -> int:
    """Load weights to begin with; returns how many tensors fitted.

    `start`: the id `efficientnet-lite0` or timm's safetensors, for the backbone; or a whole P2PNet, by id or folder, whose
    network is then tuned further (a head for other classes stays new).
    Raises BadInput when the file cannot be read or fits less than half of the network: another one's weights.
    """
    state = _weights_of(start)
    part = model if any(key.startswith("backbone.") for key in state) else model.backbone.body
    return load_matching(part, state, start, model.settings.backbone)


def _weights_of(start: str) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if start == "efficientnet-lite0":
        return efficientnet_lite0().state_dict()
    if Path(start).is_dir() or start in weights.registry():
        return load(weights.path(start)).state_dict()
    try:
        return load_file(start)
    except (OSError, SafetensorError) as error:
        raise BadInput(f"{start} cannot be read as safetensors: {error}") from error


def best_thresholds(detector: CellDetector, fields: Sequence[LabelledField]) -> tuple[tuple[float, ...], float]:
    """The least score of each class that suits some fields best, out of 0.2, 0.25 … 0.8, and how well they suit.

    Best is the mean of the reported classes' F1; of two classes, less the mean error of the labelling index (as a share).
    """
    loose = [(f, detector(f.image, min_score=0.15)) for f in fields]
    ids, names = _reported(detector), detector.settings.classes
    steps = np.round(np.arange(0.2, 0.81, 0.05), 2)
    thresholds = np.full(len(names), 0.35)

    def worth(floors: np.ndarray, index: bool) -> float:
        scores = _scores([(f, c.take(c.scores >= floors[c.classes])) for f, c in loose], ids, names)
        f1 = float(np.mean([scores[names[i]]["f1"] for i in ids]))
        return f1 - (scores["index_error"].get("mean", 0) / 100 if index else 0)

    for index in (False, True) if len(ids) == 2 else (False,):  # F1 by class first: only in the index do the classes meet
        for i in ids:
            thresholds[i] = max(steps, key=lambda floor: worth(np.where(np.arange(len(names)) == i, floor, thresholds), index))
    return tuple(float(v) for v in thresholds), worth(thresholds, len(ids) == 2)


def _reported(detector: CellDetector) -> list[int]:
    settings = detector.settings
    return [i for i, name in enumerate(settings.classes) if name not in settings.ignored]


def _of_classes(field: LabelledField, ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Points and labels of the reported classes."""
    rows = np.isin(field.labels, ids)
    return field.points[rows], field.labels[rows]


def measure(detector: CellDetector, splits: dict[str, list[LabelledField]]) -> dict[str, Any]:
    """F1 with 95 % intervals and the labelling index of each split but the training one."""
    return {name: score_fields(detector, fields) for name, fields in splits.items() if fields and name != "train"}


def score_fields(
    detector: CellDetector, fields: Sequence[LabelledField], scales: Sequence[float] | None = None
) -> dict[str, Any]:
    """Scores of some fields: F1 of detection and per class, pooled over cells; error of the labelling index
    (first class = positive) by field, and of the cells of all fields together.

    `scales`: the factor by which each field is resized before it is looked at; distances are px of the resized one.
    """
    predictions = []
    for field, factor in zip(fields, scales or [1.0] * len(fields), strict=True):
        cells = detector(field.image, factor)
        predictions.append((replace(field, points=field.points * factor), replace(cells, points=cells.points * factor)))
    return _scores(predictions, _reported(detector), detector.settings.classes)


def _scores(predictions: Sequence[tuple[LabelledField, Cells]], ids: Sequence[int], names: Sequence[str]) -> dict[str, Any]:
    rows, errors, pairs = [], [], []
    for field, cells in predictions:
        points, labels = _of_classes(field, ids)
        rows.append(count(cells.points, cells.scores, cells.classes, points, labels, len(names)))
        pairs.append([(int((c == 0).sum()), int((c == 1).sum())) for c in (cells.classes, labels)])
        index, true = (labelling_index(*pair) for pair in pairs[-1])
        if true is not None:
            errors.append(abs((index or 0.0) - true))
    result: dict[str, Any] = {"fields": len(predictions), "cells": sum(len(_of_classes(f, ids)[0]) for f, _ in predictions)}
    for column, name in [(0, "detection"), *((1 + i, names[i]) for i in ids)]:
        pooled = sum((r[column] for r in rows), MatchCounts())
        result[name] = {k: round(getattr(pooled, k), 4) for k in ("f1", "precision", "recall")}
        result[name]["interval"] = [round(v, 4) for v in interval(rows, column)]
    if errors:
        index, true = (labelling_index(*pair) or 0.0 for pair in np.sum(pairs, axis=0).tolist())
        found_errors = {"mean": np.mean(errors), "max": np.max(errors), "together": abs(index - true)}
        result["index_error"] = {k: round(float(v), 2) for k, v in found_errors.items()}
    return {"index_error": {}} | result
