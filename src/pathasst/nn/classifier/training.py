"""Training a classifier: fine-tune, keep the weights that the split val likes best, calibrate, measure on the split test.

Every random choice follows from (seed, step, place in the batch). The loop is `pathasst.training`'s.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from pathasst.core.errors import BadDataset
from pathasst.core.files import fingerprint
from pathasst.core.hardware import device_of, uses_bfloat16
from pathasst.nn.classifier.augment import squash, vary
from pathasst.nn.classifier.items import SPLITS, ClassifierItem, parts, read_picture, split_items
from pathasst.nn.classifier.model import Classifier, build, start_from, to_tensor
from pathasst.nn.classifier.scores import ClassifierScores, evaluate
from pathasst.nn.classifier.settings import ClassifierTraining
from pathasst.training import Task, TrainingSettings, fit
from pathasst.training.checkpoint import steps_saved
from pathasst.training.task import two_rates

Augment = Callable[[np.random.Generator, int], np.ndarray]
"""A training picture, H×W×3 uint8 RGB, made of the training item with that number."""
Log = Callable[[dict[str, Any]], None]
ENOUGH = 50  # pictures from which a temperature is worth fitting
MARGIN = 1.3  # pictures are kept in memory at this multiple of the input size, for random zoom


def train(
    settings: ClassifierTraining,
    items: Sequence[ClassifierItem],
    out: Path,
    *,
    read: Callable[[ClassifierItem], np.ndarray] = read_picture,
    augment: Augment | None = None,
    log: Log | None = None,
) -> dict[str, Any]:
    """Fine-tune a classifier on labelled pictures and measure it.

    Items without a split are split by group. Writes `model.safetensors` (fp16), `config.json`, `scores.json` and what
    `training.fit` writes. An interrupted training resumes with the same call. Returns `scores.json`'s content.
    `augment` replaces the default random view of a picture. Raises BadDataset when a split lacks pictures or a label is unknown.
    """
    out.mkdir(parents=True, exist_ok=True)
    items = split_items(items, settings.val, settings.test, settings.seed)
    classes = settings.classes or tuple(sorted({i.label for i in items}))
    if unknown := {i.label for i in items} - set(classes):
        raise BadDataset(f"labels that are no class: {', '.join(sorted(unknown))}; the classes are {', '.join(classes)}")
    split = parts(items)
    if missing := [name for name in ("train", "val") if not split[name]]:
        raise BadDataset(f"no picture is in the split {' nor in '.join(missing)}; name more groups")
    for name in ("val", "test"):  # read once, stored small
        split[name] = [i.with_picture(squash(read(i), settings.size)) for i in split[name]]
    task = ClassifierTask(settings, classes, split, read, augment)
    if settings.probe and settings.start and not steps_saved(out):
        fit_head(task, settings)
    trained = fit(task, settings, out, log=log)
    classifier = Classifier(task.model, settings.config(classes))
    classifier.config = classifier.config.replace(temperature=temperature(classifier, split["val"]))
    classifier.save(out)
    shipped = Classifier.load(out)  # what is measured is what is on disk
    scores: dict[str, Any] = {}
    for name in ("val", "test"):
        sources = sorted({i.source for i in split[name]})
        for source in [""] * bool(sources) + sources * (len(sources) > 1):
            selection = [i for i in split[name] if not source or i.source == source]
            scores[f"{name} {source}".strip()] = measure(selection, classes, shipped.predict).plain()
    scores |= {"train": {"n": len(split["train"]), "per_class": dict(Counter(i.label for i in split["train"]))}}
    text = json.dumps({"scores": scores, "settings": settings.plain()}, indent=1, ensure_ascii=False)
    (out / "scores.json").write_text(text, encoding="utf-8")
    trained.remove_checkpoints()
    return scores


def measure(
    items: Sequence[ClassifierItem], classes: Sequence[str], predict: Callable[[list[np.ndarray]], np.ndarray]
) -> ClassifierScores:
    """Scores on labelled pictures, intervals by group. `predict`: pictures → [n, classes]."""
    starts = range(0, len(items), 64)
    probabilities = np.concatenate([predict([read_picture(i) for i in items[n : n + 64]]) for n in starts])
    return evaluate(probabilities, [classes.index(i.label) for i in items], classes, [i.group for i in items])


def temperature(classifier: Classifier, items: Sequence[ClassifierItem]) -> float:
    """The temperature of least log loss on some pictures (Guo et al. 2017), in 0.25–20; 1 where there are too few to tell."""
    from scipy.optimize import minimize_scalar

    if len(items) < ENOUGH:
        return 1.0
    logits = torch.from_numpy(classifier.logits([read_picture(i) for i in items]))
    labels = torch.tensor([classifier.classes.index(i.label) for i in items])

    def loss(log_t: float) -> float:
        return float(F.cross_entropy(logits / math.exp(log_t), labels))

    best = minimize_scalar(loss, bounds=(math.log(0.25), math.log(20)), method="bounded")
    return round(math.exp(float(best.x)), 4)


class ClassifierTask(Task):
    """A timm network, augmented batches of balanced classes, smoothed cross-entropy; the best macro F1 on val is kept."""

    best = "macro_f1"

    def __init__(
        self,
        settings: ClassifierTraining,
        classes: Sequence[str],
        split: dict[str, list[ClassifierItem]],
        read: Callable[[ClassifierItem], np.ndarray] = read_picture,
        augment: Augment | None = None,
    ) -> None:
        torch.manual_seed(settings.seed)
        self.config = settings.config(tuple(classes))
        network = build(self.config)
        if settings.start:
            start_from(network, settings.start)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(not name.startswith(settings.freeze or "\0"))
        super().__init__(network.to(memory_format=torch.channels_last))
        self.settings, self.augment, self.val = settings, augment, split["val"]
        items = split["train"]
        self.labels = np.array([classes.index(i.label) for i in items])
        self.pictures = [] if augment else [_shrink(read(i), settings.size) for i in items]
        counts = Counter((i.source, i.label) for i in items)
        odds = np.array([counts[i.source, i.label] for i in items], float) ** -settings.balance
        self.odds = odds / odds.sum()
        self.data = fingerprint({name: [(i.label, i.group, i.source) for i in split[name]] for name in SPLITS if name in split})

    def batch(self, step: int, places: range) -> tuple[torch.Tensor, torch.Tensor]:
        """(N×3×S×S float32, N class numbers)."""
        pictures, labels = [], []
        for place in places:
            rng = np.random.default_rng((self.settings.seed, step, place))
            index = int(rng.choice(len(self.labels), p=self.odds))
            pictures.append(self.view(rng, index))
            labels.append(int(self.labels[index]))
        return to_tensor(pictures, self.settings.backbone), torch.tensor(labels)

    def view(self, rng: np.random.Generator, index: int) -> np.ndarray:
        """A random view of the picture with that number, size×size×3 uint8."""
        if self.augment:
            return squash(self.augment(rng, index), self.settings.size)
        return vary(self.pictures[index], self.settings, rng)

    def loss(self, model: nn.Module, batch: Any) -> dict[str, torch.Tensor]:
        pixels, labels = batch
        return {"loss": F.cross_entropy(model(pixels).float(), labels, label_smoothing=self.settings.smoothing)}

    def optimizer(self, settings: TrainingSettings) -> torch.optim.Optimizer:
        """The head at `lr`, the backbone at `backbone_rate` of it."""
        head = {id(p) for p in self.model.get_classifier().parameters()}  # type: ignore[operator]
        body = [p for p in self.model.parameters() if id(p) not in head]
        return two_rates(self.model, body, settings, self.settings.backbone_rate)

    def train_mode(self, model: nn.Module) -> None:
        model.train()
        for name, module in self.model.named_modules():
            norm = isinstance(module, nn.modules.batchnorm._BatchNorm)
            if norm and (not self.settings.norms or name.startswith(self.settings.freeze or "\0")):
                module.training = False

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        classifier = Classifier(model, self.config, device=str(next(model.parameters()).device))
        scores = measure(self.val, self.config.classes, classifier.predict)
        return {"macro_f1": scores.macro_f1.value, "accuracy": scores.accuracy.value}


def _shrink(picture: np.ndarray, size: int) -> np.ndarray:
    return squash(picture, round(size * MARGIN)) if min(picture.shape[:2]) > size * MARGIN else picture


def fit_head(task: ClassifierTask, settings: ClassifierTraining) -> None:
    """Logistic regression on frozen features as the head's start: fine-tuning then begins where a random head would end.

    (Kumar et al. 2022, "Fine-tuning can distort pretrained features": linear probing, then fine-tuning.)
    """
    from sklearn.linear_model import LogisticRegression

    network: Any = task.model.eval()
    device = device_of(settings.device)
    network.to(device)
    features = []
    views = [(i, np.random.default_rng((settings.seed, v, i, 9))) for v in range(settings.probe) for i in range(len(task.labels))]
    half = uses_bfloat16(settings.precision, device)
    with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=half):
        for start in range(0, len(views), settings.batch):
            pixels = to_tensor([task.view(rng, i) for i, rng in views[start : start + settings.batch]], settings.backbone)
            out = network.forward_head(network.forward_features(pixels.to(device)), pre_logits=True)
            features.append(out.float().cpu().numpy())
    vectors = np.concatenate(features)
    mean, spread = vectors.mean(0), vectors.std(0)
    spread += 0.01 * spread.max()
    labels, odds = np.tile(task.labels, settings.probe), np.tile(task.odds, settings.probe)
    regression = LogisticRegression(C=3 / vectors.shape[1], max_iter=300)
    regression.fit((vectors - mean) / spread, labels, sample_weight=odds * len(odds) / odds.sum())
    slopes, offsets = regression.coef_, regression.intercept_
    if len(regression.classes_) == 2:  # scikit-learn holds one row for two classes
        slopes, offsets = np.stack([-slopes[0], slopes[0]]) / 2, np.array([-1, 1]) * offsets / 2
    head = network.get_classifier()
    weight = torch.from_numpy(slopes / spread).float()
    bias = torch.from_numpy(offsets).float() - weight @ torch.from_numpy(mean).float()
    with torch.no_grad():
        head.weight.zero_()
        head.bias.fill_(-5.0)  # of a class without a training picture
        head.weight[regression.classes_] = weight.to(device)
        head.bias[regression.classes_] = bias.to(device)
