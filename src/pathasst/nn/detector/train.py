"""Training a detector: `train(settings, out)` fits, keeps the best by the validation split, sets the threshold, measures.

A killed training goes on with the same command and sees the same pictures. In `out`: model.safetensors and config.json (the
best), train.jsonl, losses.png, scores.json and scores.md, and state.pt while it runs.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pathasst.core.errors import BadInput
from pathasst.core.hardware import has_fast_bfloat16
from pathasst.nn.detector import evaluate, infer
from pathasst.nn.detector.augment import Windows
from pathasst.nn.detector.boxes import Boxes
from pathasst.nn.detector.data import Labelled, gather, keep_in_memory
from pathasst.nn.detector.nets import Network, build, channels_last
from pathasst.nn.detector.settings import DetectorSettings, TrainSettings, as_plain

Log = Callable[[dict[str, Any]], None]
Splits = dict[str, list[Labelled]]
LOW = 0.01
"""Least score for measuring an average precision."""


def train(settings: TrainSettings, out: Path, pictures: Splits | None = None, log: Log | None = None) -> dict[str, Any]:
    """Train on the recipe's data, or on `pictures` (keys train, validation, test), and return the scores by split.

    Without a validation split the last weights are kept and the threshold stays the settings'.
    Raises BadDataset, BadSettings; MissingWeights when the ImageNet weights are not here.
    """
    splits = pictures or gather(settings.data, settings.model.classes)
    for part in splits.values():
        keep_in_memory(part)
    fit(settings, splits, out, log)
    detector = infer.Detector.load(out)
    scores = {}
    for name in ("validation", "test"):
        if splits.get(name):
            scores[name] = score(detector, splits[name])
    plain = {name: _plain(s) for name, s in scores.items()}
    (out / "scores.json").write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
    (out / "scores.md").write_text("".join(f"{n}, {s.pictures} pictures\n\n{s.table()}\n\n" for n, s in scores.items()))
    draw(out)
    return plain


def fit(settings: TrainSettings, splits: Splits, out: Path, log: Log | None = None) -> None:
    """The training loop. The moving average of the weights is what is measured and kept."""
    from timm.utils import ModelEmaV3

    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(settings.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = channels_last(start_network(settings)).to(device)
    average = ModelEmaV3(model, decay=settings.ema, use_warmup=True, warmup_power=0.8)
    optimiser = torch.optim.AdamW(_groups(model, settings), settings.lr)
    run = _Run(out, settings, model, average, optimiser)
    run.resume()
    windows = Windows(splits["train"], settings)
    batches: Any = torch.utils.data.DataLoader(
        windows,  # type: ignore[arg-type]
        batch_size=None,
        sampler=range(run.step, settings.steps),
    )
    begun, recent = time.process_time() - run.spent, []
    for step, (pixels, boxes, labels) in enumerate(batches, run.step):
        run.spent = time.process_time() - begun
        progress = max(step / settings.steps, run.spent / (60 * settings.minutes) if settings.minutes else 0)
        if progress >= 1:
            break
        for group in optimiser.param_groups:
            group["lr"] = group["highest"] * rate(progress, (step + 1) / max(settings.warmup, 1))
        recent.append(_step(model, optimiser, pixels.to(device), [b.to(device) for b in boxes], labels, settings))
        average.update(model, step=step)
        run.step = step + 1
        if run.step % 20 == 0:
            run.note({k: float(np.mean([r[k] for r in recent])) for k in recent[0]}, log)
            recent.clear()
        if run.step % settings.evaluate_every == 0 and splits.get("validation"):
            run.measure(splits["validation"], log)
        if run.step % settings.save_every == 0:
            run.save()
    run.finish(splits.get("validation", []), log)


def rate(progress: float, warm: float) -> float:
    """Share of the highest rate: linear warm-up, flat to the middle, then a cosine down to a twentieth."""
    late = max(0.0, (progress - 0.5) / 0.5)
    return min(warm, 1.0) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(late, 1.0))))


def start_network(settings: TrainSettings) -> Network:
    """The network with the weights the settings start from. Raises BadInput for weights that fit less than half of it."""
    lite = settings.model.architecture == "lite0"
    network = build(settings.model, pretrained=lite and settings.start == "imagenet", frozen=settings.frozen)
    if settings.start in ("", "imagenet"):
        return network
    found = _weights_of(Path(settings.start))
    own = network.state_dict()
    fitting = {k: v for k, v in found.items() if k in own and own[k].shape == v.shape}
    if len(fitting) < len(own) / 2:
        raise BadInput(f"{settings.start} fits {len(fitting)} of {len(own)} tensors of {settings.model.architecture}.")
    network.load_state_dict(fitting, strict=False)
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


def _groups(model: Network, settings: TrainSettings) -> list[dict[str, Any]]:
    """Backbone and rest, each with and without weight decay (norms and biases go without)."""
    slow = {id(p) for p in model.backbone_parameters()}
    groups: dict[tuple[bool, bool], list[Any]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            groups.setdefault((id(parameter) in slow, parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": some,
            "highest": settings.lr * (settings.backbone_rate if backbone else 1),
            "weight_decay": settings.weight_decay if decays else 0.0,
        }
        for (backbone, decays), some in groups.items()
    ]


def _step(
    model: Network, optimiser: torch.optim.Optimizer, pixels: torch.Tensor, boxes: Any, labels: Any, settings: TrainSettings
) -> dict[str, float]:
    x = pixels.float().contiguous(memory_format=torch.channels_last)
    with torch.autocast(pixels.device.type, torch.bfloat16, enabled=settings.bf16 and has_fast_bfloat16(pixels.device.type)):
        maps = model(x)
    losses = model.loss(maps, boxes, [c.to(pixels.device) for c in labels])
    optimiser.zero_grad(set_to_none=True)
    losses["total"].backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
    optimiser.step()
    return {k: float(v.detach()) for k, v in losses.items()}


class _Run:
    """What an interrupted training needs to go on, and the record of how it went."""

    def __init__(self, out: Path, settings: TrainSettings, model: Network, average: Any, optimiser: Any) -> None:
        self.out, self.settings, self.model, self.average, self.optimiser = out, settings, model, average, optimiser
        self.step, self.spent, self.best, self.measured = 0, 0.0, -1.0, -1

    def resume(self) -> None:
        file = self.out / "state.pt"
        state = torch.load(file, weights_only=True, map_location="cpu") if file.is_file() else None
        if state is None or state["settings"] != json.dumps(as_plain(self.settings)):
            (self.out / "train.jsonl").unlink(missing_ok=True)
            return
        self.model.load_state_dict(state["model"])
        self.average.module.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.spent, self.best = state["step"], state["spent"], state["best"]

    def save(self) -> None:
        parts = {"model": self.model, "average": self.average.module, "optimiser": self.optimiser}
        state = {k: v.state_dict() for k, v in parts.items()}
        state |= {"step": self.step, "spent": self.spent, "best": self.best, "settings": json.dumps(as_plain(self.settings))}
        torch.save(state, self.out / "state.pt.new")
        (self.out / "state.pt.new").replace(self.out / "state.pt")

    def note(self, values: dict[str, float], log: Log | None) -> None:
        entry = {"step": self.step, "seconds": round(self.spent, 1), **{k: round(v, 4) for k, v in values.items()}}
        with (self.out / "train.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        if log:
            log(entry)

    def measure(self, pictures: Sequence[Labelled], log: Log | None) -> None:
        """Measure the averaged weights; keep them if they are the best so far."""
        detector = infer.Detector(infer.TorchReader(self.average.module), self.settings.model)
        found, truth = find(detector, pictures), truths(pictures, self.settings.model)
        classes = self.settings.model.reported
        ap50, ap = evaluate.mean_ap(found, truth, classes)
        self.note({"map50": ap50, "map": ap}, log)
        self.measured = self.step
        if ap50 + ap > self.best:
            self.best = ap50 + ap
            settings = replace(self.settings.model, min_score=evaluate.best_threshold(found, truth, classes))
            infer.save(self.average.module, settings, self.out, step=self.step, seed=self.settings.seed)

    def finish(self, pictures: Sequence[Labelled], log: Log | None) -> None:
        if pictures and self.measured < self.step:
            self.measure(pictures, log)
        elif not pictures:
            infer.save(self.average.module, self.settings.model, self.out, step=self.step, seed=self.settings.seed)
        (self.out / "state.pt").unlink(missing_ok=True)


def find(detector: infer.Detector, pictures: Sequence[Labelled]) -> list[Boxes]:
    """All boxes of at least score 0.01 in some labelled pictures."""
    return [detector.detect([p.pixels()], min_score=LOW, most=evaluate.MOST)[0] for p in pictures]


def truths(pictures: Sequence[Labelled], settings: DetectorSettings) -> list[evaluate.Truth]:
    """The labels of some pictures that are to be reported, for `evaluate`."""
    known = [np.isin(p.labels, settings.reported) for p in pictures]
    return [evaluate.Truth(p.boxes[k], p.labels[k]) for p, k in zip(pictures, known, strict=True)]


def score(detector: infer.Detector, pictures: Sequence[Labelled]) -> evaluate.Scores:
    """Measure a detector on labelled pictures, at its own threshold."""
    settings = detector.settings
    names = {i: settings.classes[i] for i in settings.reported}
    return evaluate.evaluate(find(detector, pictures), truths(pictures, settings), names, settings.min_score)


def _plain(value: Any) -> Any:
    """Nested scores as plain values, rounded."""
    values = asdict(value)

    def rounded(x: Any) -> Any:
        if isinstance(x, dict):
            return {k: rounded(v) for k, v in x.items()}
        return None if isinstance(x, float) and math.isnan(x) else round(x, 4) if isinstance(x, float) else x

    return rounded(values)


def draw(out: Path) -> None:
    """losses.png from train.jsonl: the losses, and the average precision on the validation split."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [json.loads(line) for line in (out / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    figure = Figure(figsize=(10, 3.6))
    FigureCanvasAgg(figure)
    for place, (keys, label) in enumerate(((("total", "class", "box"), "loss"), (("map50", "map"), "validation")), start=1):
        axes = figure.add_subplot(1, 2, place)
        for key in keys:
            axes.plot([r["step"] for r in rows if key in r], [r[key] for r in rows if key in r], label=key)
        axes.set(xlabel="step", ylabel=label)
        axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(out / "losses.png", dpi=110)
