"""Training a nuclei network on outlined nuclei: `train(settings, out)` fits, chooses the thresholds, measures. Runs resume."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from pathasst.core import weights
from pathasst.core.files import fingerprint
from pathasst.core.statistics import Interval, mean_interval
from pathasst.imaging.instances import instance_intervals, pool_instances
from pathasst.nn.checkpoints import load_matching
from pathasst.nn.nuclei.data import NucleiCrops, NucleiField, read_fields, split_fields
from pathasst.nn.nuclei.infer import Segmenter, load, nuclei_of, save
from pathasst.nn.nuclei.model import NucleiNet
from pathasst.nn.nuclei.settings import NucleiTraining
from pathasst.nn.p2pnet.infer import resize
from pathasst.nn.pretrained import efficientnet_lite0
from pathasst.training import Task, TrainingSettings, fit
from pathasst.training.task import two_rates

Log = Callable[[dict[str, Any]], None]
SPLIT_SEED = 0
"""The splits are the same in every training, whatever its own seed."""


def train(settings: NucleiTraining, out: Path, log: Log | None = None) -> dict[str, Any]:
    """Train, choose the thresholds on the split val, measure on the split test.

    Writes `model.safetensors`, `scores.json` and what `training.fit` writes. Interrupted trainings resume with the same call.
    Returns the scores. Raises BadDataset when there is no picture to train on.
    """
    splits: dict[str, list[NucleiField]] = {"train": [], "val": [], "test": []}
    for data in settings.data:
        for name, fields in split_fields(read_fields(data, settings.model), data, SPLIT_SEED).items():
            splits[name] += fields
    task = NucleiTask(settings, splits["train"], splits["val"])
    trained = fit(task, settings, out, log=log)
    thresholds, _ = best_thresholds(Segmenter(task.network), splits["val"] or splits["train"][:20])
    task.network.settings = settings.model.replace(**thresholds)
    save(task.network, out)
    segmenter = Segmenter.load(out)
    measured = {
        name: {source: measure(segmenter, [f for f in splits[name] if f.source == source]) for source in sources_of(splits[name])}
        for name in ("val", "test")
        if splits[name]
    }
    result = {"thresholds": thresholds, "steps": trained.step, "seconds": round(trained.seconds), **measured}
    (out / "scores.json").write_text(json.dumps({"scores": result, "settings": settings.plain()}, indent=1), encoding="utf-8")
    trained.remove_checkpoints()
    return result


class NucleiTask(Task):
    """A NucleiNet on random crops; the average of the last weights is kept, or with `evaluate_every` of the best on `val`."""

    def __init__(self, settings: NucleiTraining, fields: Sequence[NucleiField], val: Sequence[NucleiField] = ()) -> None:
        torch.manual_seed(settings.seed)
        network = NucleiNet(settings.model)
        if settings.start == "efficientnet-lite0":
            load_matching(network.backbone.body, efficientnet_lite0().state_dict(), settings.start)
        elif settings.start:
            network.load_state_dict(load(weights.path(settings.start)).state_dict())
        body = network.backbone.body
        for part in [body.conv_stem, body.bn1, *body.blocks[: settings.frozen]] if settings.frozen else []:
            part.requires_grad_(False)  # early stages see edges and colours of anything; a third of the time is theirs
        self.network: NucleiNet = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        super().__init__(self.network)
        self.settings, self.val = settings, val
        self.best = "pq" if settings.evaluate_every and val else ""
        self.crops = NucleiCrops(fields, settings)
        self.data = fingerprint({"fields": [(f.name, f.source, int(f.labels.max()), f.labels.shape) for f in fields]})

    def batch(self, step: int, places: range) -> Any:
        """(images N×3×S×S uint8, maps N×4×S×S float32)."""
        return self.crops.batch(step, places)

    def loss(self, model: nn.Module, batch: Any) -> dict[str, torch.Tensor]:
        """Cross entropy and Dice of the foreground, squared error of the centres, absolute error of the ways within nuclei."""
        images, maps = batch
        output = model(images.float().div_(255).contiguous(memory_format=torch.channels_last)).float()
        inside = maps[:, 0]
        entropy = F.binary_cross_entropy_with_logits(output[:, 0], inside)
        probability = output[:, 0].sigmoid()
        dice = 1 - (2 * (probability * inside).sum() + 1) / (probability.sum() + inside.sum() + 1)
        centre = ((output[:, 1].sigmoid() - maps[:, 1]) ** 2).mean()
        way = ((output[:, 2:] - maps[:, 2:]).abs().sum(1) * inside).sum() / inside.sum().clamp(min=1)
        return {"loss": entropy + dice + 10 * centre + way, "foreground": entropy, "dice": dice, "centre": centre, "way": way}

    def optimizer(self, settings: TrainingSettings) -> torch.optim.Optimizer:
        """The backbone with its own rate, and the rest."""
        return two_rates(self.network, self.network.backbone.parameters(), settings, self.settings.backbone_rate)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """The PQ that the best thresholds reach on val."""
        return {"pq": best_thresholds(Segmenter(self.network), self.val)[1]} if self.best else {}


def sources_of(fields: Sequence[NucleiField]) -> list[str]:
    """Names of the sources, in order of appearance."""
    return list(dict.fromkeys(f.source for f in fields))


def best_thresholds(segmenter: Segmenter, fields: Sequence[NucleiField]) -> tuple[dict[str, float], float]:
    """The thresholds of foreground and centre with the highest PQ on some fields, as the mean over their sources, and that PQ."""
    maps = [segmenter.maps(resize(f.image, f.factor)) for f in fields]

    def worth(foreground: float, centre: float) -> float:
        settings = segmenter.settings.replace(min_foreground=foreground, min_centre=centre)
        labels = [nuclei_of(m, f.labels.shape, f.factor, settings).labels for f, m in zip(fields, maps, strict=True)]
        by_source = [
            [(f.labels, own) for f, own in zip(fields, labels, strict=True) if f.source == s] for s in sources_of(fields)
        ]
        return float(np.mean([pool_instances([t for t, _ in part], [p for _, p in part], ()).pq for part in by_source]))

    worths = {pair: worth(*pair) for pair in product((0.5, 0.6), (0.15, 0.2, 0.25, 0.3, 0.35))}
    foreground, centre = max(worths, key=lambda pair: worths[pair])
    return {"min_foreground": foreground, "min_centre": centre}, worths[foreground, centre]


def measure(segmenter: Segmenter, fields: Sequence[NucleiField], scale_known: bool = True) -> dict[str, Any]:
    """Scores of some fields with 95 % intervals that draw whole groups, and the error of the count in per cent of each picture's
    nuclei. `scale_known`: whether the network is given the scale of the fields, or reads it from them."""
    truths = [f.labels for f in fields]
    own = [segmenter(f.image, scale=f.factor if scale_known else None).labels for f in fields]
    groups = [f.group for f in fields]
    values = instance_intervals(truths, own, groups, (0.5, 0.75))
    counts = [(len(np.unique(p)) - 1, len(np.unique(t)) - 1) for t, p in zip(truths, own, strict=True)]
    values["count_error_percent"] = mean_interval([100 * abs(p - t) / max(t, 1) for p, t in counts], groups)
    together = {"nuclei": sum(t for _, t in counts), "predicted": sum(p for p, _ in counts)}
    return {"pictures": len(fields), **together, **{k: asdict(v) for k, v in values.items()}}


def table(measured: dict[str, Any]) -> str:
    """The scores of each source, as `train` gives them for a split, as Markdown."""
    names = ["F1@0.5", "PQ", "AJI", "count_error_percent"]
    rows = [
        [source, str(one["pictures"]), str(one["nuclei"]), *(str(Interval(**one[n])) for n in names)]
        for source, one in measured.items()
    ]
    head = ["source", "pictures", "nuclei", "F1@0.5", "PQ", "AJI", "count off by %"]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])
