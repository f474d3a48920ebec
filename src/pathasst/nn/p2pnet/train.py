"""Training a P2PNet on points CSVs: `train(settings, out)` fits, chooses the threshold, measures; it resumes after a kill."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pathasst.core import weights
from pathasst.core.errors import BadInput
from pathasst.core.hardware import has_fast_bfloat16
from pathasst.nn.p2pnet.data import Crops, Field, read_fields, split_fields
from pathasst.nn.p2pnet.evaluate import Counts, count, interval, labelling_index
from pathasst.nn.p2pnet.infer import Cells, Detector, load, save
from pathasst.nn.p2pnet.loss import PointLoss
from pathasst.nn.p2pnet.model import P2PNet
from pathasst.nn.p2pnet.settings import TrainSettings, as_plain
from pathasst.nn.pretrained import efficientnet_lite0

Log = Callable[[dict[str, Any]], None]


def train(settings: TrainSettings, out: Path, log: Log | None = None) -> dict[str, Any]:
    """Train, choose the threshold on the validation split, measure on the test split.

    Writes `model.safetensors`, `train.jsonl`, `scores.json` and, while it runs, `state.pt`, from which the same call goes on
    after a kill. Returns the scores.
    """
    torch.manual_seed(settings.seed)
    out.mkdir(parents=True, exist_ok=True)
    splits = _read(settings)
    average = fit(settings, splits["train"], out, log)
    model = P2PNet(settings.model)
    model.load_state_dict(average)
    detector = Detector(model.eval().to(memory_format=torch.channels_last))  # type: ignore[call-overload]
    thresholds = best_thresholds(detector, splits["validation"] or splits["train"])
    model.settings = replace(settings.model, min_score=thresholds)
    save(model, out)
    scores = {"thresholds": dict(zip(model.settings.classes, thresholds, strict=True)), **measure(Detector(load(out)), splits)}
    (out / "scores.json").write_text(json.dumps({"scores": scores, "settings": as_plain(settings)}, indent=1), encoding="utf-8")
    return scores


def _read(settings: TrainSettings) -> dict[str, list[Field]]:
    splits: dict[str, list[Field]] = {"train": [], "validation": [], "test": []}
    for data in settings.data:
        for name, fields in split_fields(read_fields(data, settings.model.classes), data).items():
            splits[name] += fields
    return splits


def rate(progress: float, warm: float) -> float:
    """Factor on the learning rate: linear warm-up, then a half cosine to zero. Both arguments are shares of the training."""
    if progress < warm:
        return progress / warm
    return 0.5 * (1 + math.cos(math.pi * min((progress - warm) / max(1 - warm, 1e-9), 1)))


def fit(settings: TrainSettings, fields: Sequence[Field], out: Path, log: Log | None = None) -> dict[str, torch.Tensor]:
    """The training loop; returns the moving average of the weights."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = P2PNet(settings.model)
    if settings.start:
        start_from(network, settings.start)
    model = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.train()
    optimiser = torch.optim.AdamW(_groups(model, settings), settings.lr, weight_decay=settings.weight_decay)
    average = {k: v.detach().clone().float() for k, v in model.state_dict().items()}
    start, spent = _resume(out, settings, model, optimiser, average)
    # Pictures with more cells teach more, but a nearly empty one must still come up: the square root is between.
    crops = Crops(fields, [math.sqrt(len(f.points) + 5) for f in fields], settings)
    batches: Any = torch.utils.data.DataLoader(
        crops,  # type: ignore[arg-type]
        batch_size=None,
        sampler=range(start, settings.steps),
        num_workers=1,
        prefetch_factor=4,
    )
    loss, begun = PointLoss(settings.no_object, settings.point_weight, settings.match_distance), time.monotonic() - spent
    recent: list[tuple[float, float]] = []
    for step, (images, points, labels) in enumerate(batches, start):
        spent = time.monotonic() - begun
        progress = max(step / settings.steps, spent / (60 * settings.minutes) if settings.minutes else 0)
        if progress >= 1:
            break
        for group in optimiser.param_groups:
            group["lr"] = group["highest"] * rate(max(progress, 1 / settings.steps), settings.warmup / settings.steps)
        losses = _step(model, optimiser, loss, images.to(device), points, labels, settings)
        recent.append(losses)
        _update(average, model, min(settings.ema, (1 + step) / (10 + step)))
        if (step + 1) % 20 == 0:
            entry = {
                "step": step + 1,
                "class": np.mean([r[0] for r in recent]),
                "px²": np.mean([r[1] for r in recent]),
                "seconds": spent,
            }
            recent.clear()
            _note(out, entry, log)
        if (step + 1) % settings.save_every == 0:
            _checkpoint(out, settings, step + 1, spent, model, optimiser, average)
    (out / "state.pt").unlink(missing_ok=True)
    return {k: v.cpu() for k, v in average.items()}


def _groups(model: P2PNet, settings: TrainSettings) -> list[dict[str, Any]]:
    """The backbone with its own rate, and the rest."""
    backbone = {id(p) for p in model.backbone.parameters()}
    rest = [p for p in model.parameters() if id(p) not in backbone]
    slow = {"params": list(model.backbone.parameters()), "highest": settings.lr * settings.backbone_rate}
    return [slow, {"params": rest, "highest": settings.lr}]


def start_from(model: P2PNet, start: str) -> int:
    """Load weights to begin with; returns how many tensors fitted.

    `start`: the id `efficientnet-lite0` or timm's safetensors, for the backbone; or a whole P2PNet, by id or folder, whose
    network is then tuned further (a head for other classes stays new).
    Raises BadInput when the file cannot be read or fits less than half of the network: another one's weights.
    """
    found = _weights_of(start)
    part = model if any(key.startswith("backbone.") for key in found) else model.backbone.body
    own = part.state_dict()
    fitting = {k: v for k, v in found.items() if k in own and own[k].shape == v.shape}
    if len(fitting) < len(own) / 2:
        raise BadInput(
            f"{start} fits {len(fitting)} of the {len(own)} tensors of {model.settings.backbone}; name its own weights."
        )
    part.load_state_dict(fitting, strict=False)
    return len(fitting)


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


def _step(
    model: P2PNet,
    optimiser: torch.optim.Optimizer,
    loss: PointLoss,
    images: torch.Tensor,
    points: Any,
    labels: Any,
    settings: Any,
) -> tuple[float, float]:
    scaled = images.float().div_(255).contiguous(memory_format=torch.channels_last)
    with torch.autocast(images.device.type, torch.bfloat16, enabled=settings.bf16 and has_fast_bfloat16(images.device.type)):
        proposals = model(scaled)
    device = images.device
    losses = loss(proposals, [p.to(device) for p in points], [c.to(device) for c in labels])
    optimiser.zero_grad(set_to_none=True)
    losses.total.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
    optimiser.step()
    return float(losses.classification), float(losses.point)


@torch.no_grad()
def _update(average: dict[str, torch.Tensor], model: P2PNet, decay: float) -> None:
    for key, value in model.state_dict().items():
        if value.is_floating_point():
            average[key].lerp_(value.float(), 1 - decay)
        else:
            average[key].copy_(value)


def _note(out: Path, entry: dict[str, Any], log: Log | None) -> None:
    with (out / "train.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({k: round(float(v), 4) for k, v in entry.items()}, ensure_ascii=False) + "\n")
    if log:
        log(entry)


def _checkpoint(out: Path, settings: Any, step: int, spent: float, model: Any, optimiser: Any, average: Any) -> None:
    state = {"step": step, "spent": spent, "model": model.state_dict(), "optimiser": optimiser.state_dict(), "average": average}
    state["settings"] = json.dumps(as_plain(settings))
    torch.save(state, out / "state.pt.new")
    (out / "state.pt.new").replace(out / "state.pt")


def _resume(
    out: Path, settings: TrainSettings, model: P2PNet, optimiser: Any, average: dict[str, torch.Tensor]
) -> tuple[int, float]:
    """(step, seconds spent) of an interrupted training with the same settings; (0, 0) when there is none."""
    file = out / "state.pt"
    if not file.is_file():
        (out / "train.jsonl").unlink(missing_ok=True)
        return 0, 0.0
    state = torch.load(file, weights_only=True)
    if state["settings"] != json.dumps(as_plain(settings)):
        (out / "train.jsonl").unlink(missing_ok=True)
        return 0, 0.0
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    for key, value in state["average"].items():
        average[key].copy_(value)
    return int(state["step"]), float(state["spent"])


def best_thresholds(detector: Detector, fields: Sequence[Field]) -> tuple[float, ...]:
    """The least score of each class that suits some fields best, out of 0.2, 0.25 … 0.8.

    Best is the mean of the reported classes' F1; of two classes, less the mean error of the labelling index (as a share).
    """
    loose = [(f, detector(f.image, min_score=0.15)) for f in fields]
    ids, names = _reported(detector), detector.settings.classes
    steps = np.round(np.arange(0.2, 0.81, 0.05), 2)
    chosen = np.full(len(names), 0.35)

    def worth(floors: np.ndarray, index: bool) -> float:
        scores = _scores([(f, c.take(c.scores >= floors[c.classes])) for f, c in loose], ids, names)
        f1 = float(np.mean([scores[names[i]]["f1"] for i in ids]))
        return f1 - (scores["index_error"].get("mean", 0) / 100 if index else 0)

    for index in (False, True) if len(ids) == 2 else (False,):  # F1 by class first: only in the index do the classes meet
        for i in ids:
            chosen[i] = max(steps, key=lambda floor: worth(np.where(np.arange(len(names)) == i, floor, chosen), index))
    return tuple(float(v) for v in chosen)


def _reported(detector: Detector) -> list[int]:
    settings = detector.settings
    return [i for i, name in enumerate(settings.classes) if name not in settings.ignored]


def _known(field: Field, ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Points and labels of the reported classes."""
    chosen = np.isin(field.labels, ids)
    return field.points[chosen], field.labels[chosen]


def measure(detector: Detector, splits: dict[str, list[Field]]) -> dict[str, Any]:
    """F1 with 95 % intervals and the labelling index of each split but the training one."""
    return {name: score_fields(detector, fields) for name, fields in splits.items() if fields and name != "train"}


def score_fields(detector: Detector, fields: Sequence[Field]) -> dict[str, Any]:
    """Scores of some fields: F1 of detection and per class, pooled over cells; error of the labelling index
    (first class = positive) by field, and of the cells of all fields together."""
    return _scores([(f, detector(f.image)) for f in fields], _reported(detector), detector.settings.classes)


def _scores(found: Sequence[tuple[Field, Cells]], ids: Sequence[int], names: Sequence[str]) -> dict[str, Any]:
    rows, errors, pairs = [], [], []
    for field, cells in found:
        points, labels = _known(field, ids)
        rows.append(count(cells.points, cells.scores, cells.classes, points, labels, len(names)))
        pairs.append([(int((c == 0).sum()), int((c == 1).sum())) for c in (cells.classes, labels)])
        index, true = (labelling_index(*pair) for pair in pairs[-1])
        if true is not None:
            errors.append(abs((index or 0.0) - true))
    result: dict[str, Any] = {"fields": len(found), "cells": sum(len(_known(f, ids)[0]) for f, _ in found)}
    for column, name in [(0, "detection"), *((1 + i, names[i]) for i in ids)]:
        pooled = sum((r[column] for r in rows), Counts())
        result[name] = {k: round(getattr(pooled, k), 4) for k in ("f1", "precision", "recall")}
        result[name]["interval"] = [round(v, 4) for v in interval(rows, column)]
    if errors:
        index, true = (labelling_index(*pair) or 0.0 for pair in np.sum(pairs, axis=0).tolist())
        found_errors = {"mean": np.mean(errors), "max": np.max(errors), "together": abs(index - true)}
        result["index_error"] = {k: round(float(v), 2) for k, v in found_errors.items()}
    return {"index_error": {}} | result
