"""Training a detector: `train(settings, out)` fits, keeps the best by the split val, sets the threshold, measures.

In `out`: model.safetensors and config.json, scores.json and scores.md, and what `pathasst.training` writes. Interrupted trainings
resume and see the same pictures.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pathasst.core.errors import BadDataset, BadInput
from pathasst.core.files import fingerprint
from pathasst.nn.checkpoints import load_matching
from pathasst.nn.detector import evaluate, infer, second_stage
from pathasst.nn.detector.augment import Windows
from pathasst.nn.detector.boxes import Boxes
from pathasst.nn.detector.data import Labelled, gather, keep_in_memory
from pathasst.nn.detector.nets import DetectorNetwork, build, channels_last
from pathasst.nn.detector.settings import DetectorSettings, DetectorTraining
from pathasst.training import Task, TrainingSettings, fit

Log = Callable[[dict[str, Any]], None]
Splits = dict[str, list[Labelled]]
LOW = 0.01
"""Least score for measuring an average precision."""


def train(settings: DetectorTraining, out: Path, pictures: Splits | None = None, log: Log | None = None) -> dict[str, Any]:
    """Train on the recipe's data, or on `pictures` (keys train, val, test), and return the scores by split.

    Without a split val the last weights are kept and the threshold stays the settings'.
    Raises BadDataset when there is no box to learn from, BadSettings; MissingWeights when the ImageNet weights are not here.
    """
    splits = pictures or gather(settings.data, settings.model.classes)
    if not any(len(p.labels) for p in splits["train"]):
        raise BadDataset("no picture of the split train has a box of the classes; check the labels and the recipe's `classes`.")
    for part in splits.values():
        keep_in_memory(part)
    task = DetectorTask(settings, splits)
    trained = fit(task, settings, out, log=log)
    model = settings.model
    detector = infer.Detector(infer.TorchReader(task.network), model)
    if model.second_stage:
        detector.second_stage = second_stage.fit(detector, splits["train"])
        detector.second_stage.head.save(out / second_stage.FOLDER)
    if val := splits.get("val"):
        model = model.replace(min_score=evaluate.best_threshold(find(detector, val), truths(val, model), model.reported))
    infer.save(task.network, model, out, step=trained.step, seed=settings.seed)
    detector = infer.Detector.load(out)  # what is measured is what is on disk
    scores = {name: score(detector, splits[name]) for name in ("val", "test") if splits.get(name)}
    plain = {name: _plain(s) for name, s in scores.items()}
    (out / "scores.json").write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
    (out / "scores.md").write_text("".join(f"{n}, {s.pictures} pictures\n\n{s.table()}\n\n" for n, s in scores.items()))
    trained.remove_checkpoints()
    return plain


class DetectorTask(Task):
    """A detector's network on random windows; the weights of the best mAP@0.5 + mAP@0.5:0.95 on val are kept."""

    best = "map50_plus_map"

    def __init__(self, settings: DetectorTraining, splits: Splits) -> None:
        torch.manual_seed(settings.seed)
        self.network: DetectorNetwork = channels_last(start_network(settings))
        super().__init__(self.network)
        self.settings, self.val = settings, splits.get("val", [])
        self.windows = Windows(splits["train"], settings)
        self.best = self.best if self.val else ""
        labels = {n: [(p.name, p.boxes.tolist(), p.labels.tolist()) for p in part] for n, part in splits.items()}
        self.data = fingerprint(labels)

    def batch(self, step: int, places: range) -> Any:
        """(pixels b×3×S×S uint8, boxes, labels)."""
        return self.windows.batch(step, places)

    def loss(self, model: nn.Module, batch: Any) -> dict[str, torch.Tensor]:
        pixels, boxes, labels = batch
        losses = self.network.loss(model(pixels.float().contiguous(memory_format=torch.channels_last)), boxes, labels)
        return {"loss": losses.pop("total"), **losses}

    def optimizer(self, settings: TrainingSettings) -> torch.optim.Optimizer:
        """Backbone and rest, each with and without weight decay (norms and biases go without)."""
        slow = {id(p) for p in self.network.backbone_parameters()}
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for parameter in self.network.parameters():
            if parameter.requires_grad:
                groups.setdefault((id(parameter) in slow, parameter.ndim > 1), []).append(parameter)
        return torch.optim.AdamW(
            [
                {
                    "params": some,
                    "lr": settings.lr * (self.settings.backbone_rate if backbone else 1),
                    "weight_decay": settings.weight_decay if decays else 0.0,
                }
                for (backbone, decays), some in groups.items()
            ]
        )

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        if not self.val:
            return {}
        boxes = find(infer.Detector(infer.TorchReader(self.network), self.settings.model), self.val)
        ap50, ap = evaluate.mean_ap(boxes, truths(self.val, self.settings.model), self.settings.model.reported)
        return {"map50": ap50, "map": ap, "map50_plus_map": ap50 + ap}


def start_network(settings: DetectorTraining) -> DetectorNetwork:
    """The network with the weights the settings start from. Raises BadInput for weights that fit less than half of it."""
    lite = settings.model.architecture == "lite0"
    imagenet = settings.start == "imagenet" or bool(settings.model.base)  # weights with a base leave out what is ImageNet's
    network = build(settings.model, pretrained=lite and imagenet, frozen=settings.frozen)
    if settings.start in ("", "imagenet"):
        return network
    load_matching(network, _weights_of(Path(settings.start)), settings.start, settings.model.architecture)
    return network


def _weights_of(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a detector's folder, a safetensors file, or a YOLOv7 checkpoint (libreyolo's or the MIT re-release's)."""
    from pickle import UnpicklingError

    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = path / "model.safetensors" if path.is_dir() else path
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, UnpicklingError, RuntimeError) as error:
        raise BadInput(f"{file} cannot be read as plain weights: {error}") from error
    content = content.get("model", content)
    from libreyolo.models.yolo7.model import LibreYOLO7

    return {f"net.{k}": v for k, v in (LibreYOLO7.convert_upstream_state_dict(content) or {}).items()}


def find(detector: infer.Detector, pictures: Sequence[Labelled], scales: Sequence[float | None] | None = None) -> list[Boxes]:
    """All boxes of at least score 0.01 in some labelled pictures, each looked at by its factor, or by the detector's own."""
    factors = scales or [None] * len(pictures)
    return [
        detector.detect([p.pixels()], min_score=LOW, most=evaluate.MOST, scale=factor)[0]
        for p, factor in zip(pictures, factors, strict=True)
    ]


def truths(pictures: Sequence[Labelled], settings: DetectorSettings) -> list[evaluate.Truth]:
    """The labels of some pictures that are to be reported, for `evaluate`."""
    is_reported = [np.isin(p.labels, settings.reported) for p in pictures]
    return [evaluate.Truth(p.boxes[k], p.labels[k]) for p, k in zip(pictures, is_reported, strict=True)]


def score(
    detector: infer.Detector, pictures: Sequence[Labelled], scales: Sequence[float | None] | None = None
) -> evaluate.DetectorScores:
    """Measure a detector on labelled pictures, at its own threshold; `scales` as in `find`."""
    settings = detector.settings
    names = {i: settings.classes[i] for i in settings.reported}
    return evaluate.evaluate(find(detector, pictures, scales), truths(pictures, settings), names, settings.min_score)


def _plain(value: Any) -> Any:
    """Nested scores as plain values, rounded."""
    values = asdict(value)

    def rounded(x: Any) -> Any:
        if isinstance(x, dict):
            return {k: rounded(v) for k, v in x.items()}
        return None if isinstance(x, float) and math.isnan(x) else round(x, 4) if isinstance(x, float) else x

    return rounded(values)
