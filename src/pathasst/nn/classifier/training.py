"""Training a classifier: fine-tune, keep the weights that the validation split likes best, calibrate, measure on the test split.

Every random choice follows from (seed, step, place in the batch). A killed training goes on from its last look at the validation
split.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from pathasst.core.errors import BadDataset
from pathasst.core.hardware import has_fast_bfloat16
from pathasst.nn.classifier.augment import squash, vary
from pathasst.nn.classifier.items import Item, parts, read_picture, split_items
from pathasst.nn.classifier.model import Classifier, build, start_from, to_tensor
from pathasst.nn.classifier.scores import Scores, evaluate
from pathasst.nn.classifier.settings import TrainSettings

Augment = Callable[[np.random.Generator, int], np.ndarray]
"""A training picture, H×W×3 uint8 RGB, made of the training item with that number."""
Log = Callable[[dict[str, Any]], None]
ENOUGH = 50  # pictures from which a temperature is worth fitting
MARGIN = 1.3  # pictures are kept in memory at this multiple of the input size, for random zoom


def train(
    settings: TrainSettings,
    items: Sequence[Item],
    out: Path,
    *,
    read: Callable[[Item], np.ndarray] = read_picture,
    augment: Augment | None = None,
    log: Log | None = None,
) -> dict[str, Any]:
    """Fine-tune a classifier on labelled pictures and measure it.

    Items without a split are split by group. Writes `model.safetensors` (fp16), `config.json`, `scores.json`, `train.jsonl` and,
    while it runs, `state.pt`, from which the same call goes on after a kill. Returns `scores.json`'s content.
    `augment` replaces the default random view of a picture. Raises BadDataset when a split lacks pictures or a label is unknown.
    """
    torch.manual_seed(settings.seed)
    out.mkdir(parents=True, exist_ok=True)
    items = split_items(items, settings.validation, settings.test, settings.seed)
    classes = settings.classes or tuple(sorted({i.label for i in items}))
    if unknown := {i.label for i in items} - set(classes):
        raise BadDataset(f"labels that are no class: {', '.join(sorted(unknown))}; the classes are {', '.join(classes)}")
    split = parts(items)
    if missing := [name for name in ("train", "validation") if not split[name]]:
        raise BadDataset(f"no picture is in the split {' nor in '.join(missing)}; name more groups")
    for name in ("validation", "test"):  # read once, kept small
        split[name] = [replace(i, image=squash(read(i), settings.size), box=None) for i in split[name]]
    fitted = _Training(settings, classes, split, out, read, augment, log).run()
    classifier = Classifier(fitted, settings.config(classes))
    classifier.config = replace(classifier.config, temperature=temperature(classifier, split["validation"]))
    classifier.save(out)
    shipped = Classifier.load(out)  # what is measured is what is on disk
    scores: dict[str, Any] = {}
    for name in ("validation", "test"):
        sources = sorted({i.source for i in split[name]})
        for source in [""] * bool(sources) + sources * (len(sources) > 1):
            chosen = [i for i in split[name] if not source or i.source == source]
            scores[f"{name} {source}".strip()] = measure(shipped, chosen).plain()
    scores |= {"train": {"n": len(split["train"]), "per_class": dict(Counter(i.label for i in split["train"]))}}
    text = json.dumps({"scores": scores, "settings": asdict(settings)}, indent=1, ensure_ascii=False)
    (out / "scores.json").write_text(text, encoding="utf-8")
    (out / "state.pt").unlink(missing_ok=True)
    return scores


def measure(classifier: Classifier, items: Sequence[Item]) -> Scores:
    """Scores of a classifier on labelled pictures, intervals by group."""
    chunks = [items[n : n + 64] for n in range(0, len(items), 64)]
    found = np.concatenate([classifier.predict([read_picture(i) for i in chunk]) for chunk in chunks])
    labels = [classifier.classes.index(i.label) for i in items]
    return evaluate(found, labels, classifier.classes, [i.group for i in items])


def temperature(classifier: Classifier, items: Sequence[Item]) -> float:
    """The temperature of least log loss on some pictures (Guo et al. 2017), in 0.25–20; 1 where there are too few to tell."""
    from scipy.optimize import minimize_scalar

    if len(items) < ENOUGH:
        return 1.0
    logits = torch.from_numpy(classifier.logits([read_picture(i) for i in items]))
    labels = torch.tensor([classifier.classes.index(i.label) for i in items])

    def loss(log_t: float) -> float:
        return float(F.cross_entropy(logits / math.exp(log_t), labels))

    found = minimize_scalar(loss, bounds=(math.log(0.25), math.log(20)), method="bounded")
    return round(math.exp(float(found.x)), 4)


def rate(progress: float, warm: float) -> float:
    """Factor on the learning rate: linear warm-up, then a half cosine to zero. Both arguments are shares of the training."""
    if progress < warm:
        return progress / warm
    return 0.5 * (1 + math.cos(math.pi * min((progress - warm) / max(1 - warm, 1e-9), 1)))


class Batches:
    """Endless augmented batches: `batches[step]` is (N×3×S×S float32, N class numbers). Usable by a DataLoader."""

    def __init__(
        self, settings: TrainSettings, items: Sequence[Item], classes: Sequence[str], read: Any, augment: Augment | None
    ):
        self.settings, self.augment = settings, augment
        self.labels = np.array([classes.index(i.label) for i in items])
        self.pictures = [] if augment else [_shrink(read(i), settings.size) for i in items]
        counts = Counter((i.source, i.label) for i in items)
        odds = np.array([counts[i.source, i.label] for i in items], float) ** -settings.balance
        self.odds = odds / odds.sum()

    def __len__(self) -> int:
        return self.settings.steps

    def __getitem__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        pictures, chosen = [], []
        for place in range(self.settings.batch):
            rng = np.random.default_rng((self.settings.seed, step, place))
            index = int(rng.choice(len(self.labels), p=self.odds))
            pictures.append(self.view(rng, index))
            chosen.append(int(self.labels[index]))
        return to_tensor(pictures, self.settings.backbone), torch.tensor(chosen)

    def view(self, rng: np.random.Generator, index: int) -> np.ndarray:
        """A random view of the picture with that number, size×size×3 uint8."""
        if self.augment:
            return squash(self.augment(rng, index), self.settings.size)
        return vary(self.pictures[index], self.settings, rng)


def _shrink(picture: np.ndarray, size: int) -> np.ndarray:
    return squash(picture, round(size * MARGIN)) if min(picture.shape[:2]) > size * MARGIN else picture


def fit_head(network: Any, batches: Batches, settings: TrainSettings) -> None:
    """Logistic regression on frozen features as the head's start: fine-tuning then begins where a random head would end.

    (Kumar et al. 2022, "Fine-tuning can distort pretrained features": linear probing, then fine-tuning.)
    """
    from sklearn.linear_model import LogisticRegression

    n, features = len(batches.labels), []
    network.eval()
    views = [(index, np.random.default_rng((settings.seed, v, index, 9))) for v in range(settings.probe) for index in range(n)]
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=settings.bf16 and has_fast_bfloat16()):
        for start in range(0, len(views), settings.batch):
            pixels = [batches.view(rng, index) for index, rng in views[start : start + settings.batch]]
            out = network.forward_head(network.forward_features(to_tensor(pixels, settings.backbone)), pre_logits=True)
            features.append(out.float().numpy())
    found = np.concatenate(features)
    mean, spread = found.mean(0), found.std(0)
    spread += 0.01 * spread.max()
    labels, odds = np.tile(batches.labels, settings.probe), np.tile(batches.odds, settings.probe)
    fit = LogisticRegression(C=3 / found.shape[1], max_iter=300)
    fit.fit((found - mean) / spread, labels, sample_weight=odds * len(odds) / odds.sum())
    head = network.get_classifier()
    slopes, offsets = (
        (fit.coef_, fit.intercept_)
        if len(fit.classes_) > 2
        else (np.stack([-fit.coef_[0], fit.coef_[0]]) / 2, np.array([-1, 1]) * fit.intercept_ / 2)
    )
    with torch.no_grad():
        head.weight.zero_()
        head.bias.fill_(-5.0)  # of a class without a training picture
        weight = torch.from_numpy(slopes / spread).float()
        head.weight[fit.classes_] = weight
        head.bias[fit.classes_] = torch.from_numpy(offsets).float() - weight @ torch.from_numpy(mean).float()


class _Training:
    """The loop's state: network, optimiser, moving average, the best weights so far."""

    def __init__(
        self,
        settings: TrainSettings,
        classes: tuple[str, ...],
        split: dict[str, list[Item]],
        out: Path,
        read: Any,
        augment: Augment | None,
        log: Log | None,
    ) -> None:
        self.settings, self.classes, self.split, self.out, self.log = settings, classes, split, out, log
        self.network = build(settings.config(classes))
        if settings.start:
            start_from(self.network, settings.start)
        self.network.to(memory_format=torch.channels_last)
        self.batches = Batches(settings, split["train"], classes, read, augment)
        resumed = self._saved()
        if settings.probe and settings.start and not resumed:
            fit_head(self.network, self.batches, settings)
        self.optimiser = torch.optim.AdamW(self._groups(), settings.lr, weight_decay=settings.weight_decay)
        self.average = {k: v.detach().clone() for k, v in self.network.state_dict().items()}
        self.best: dict[str, torch.Tensor] = {}
        self.best_score = -1.0
        self.step, self.spent = 0, 0.0
        self._resume(resumed)

    def _groups(self) -> list[dict[str, Any]]:
        head = {id(p) for p in self.network.get_classifier().parameters()}
        frozen = self.settings.freeze
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(not any(name.startswith(f) for f in frozen))
        body = [p for p in self.network.parameters() if id(p) not in head and p.requires_grad]
        return [
            {"params": body, "highest": self.settings.lr * self.settings.backbone_rate},
            {"params": list(self.network.get_classifier().parameters()), "highest": self.settings.lr},
        ]

    def run(self) -> Any:
        """Train to the end; returns the network with the best weights."""
        settings = self.settings
        begun, recent, looked = time.monotonic() - self.spent, [], 0
        loader: Any = torch.utils.data.DataLoader(
            self.batches,  # type: ignore[arg-type]
            batch_size=None,
            sampler=range(self.step, settings.steps),
            num_workers=1,
            prefetch_factor=2,
        )
        looked = int(self._progress() * settings.evaluations)
        for pixels, labels in loader:
            self.spent = time.monotonic() - begun
            if self._progress() >= 1:
                break
            recent.append(self._learn(pixels, labels))
            self.step += 1
            if int(self._progress() * settings.evaluations) > looked:
                looked = int(self._progress() * settings.evaluations)
                self._look(float(np.mean(recent)))
                recent.clear()
        self._look(float(np.mean(recent)) if recent else 0.0)
        self.network.load_state_dict(self.best)
        return self.network

    def _progress(self) -> float:
        timed = self.spent / (60 * self.settings.minutes) if self.settings.minutes else 0.0
        return max(self.step / self.settings.steps, timed) if self.settings.steps else 1.0

    def _learn(self, pixels: torch.Tensor, labels: torch.Tensor) -> float:
        settings = self.settings
        for group in self.optimiser.param_groups:
            group["lr"] = group["highest"] * rate(max(self._progress(), 1 / settings.steps), settings.warmup)
        self.network.train()
        for name, module in self.network.named_modules():
            norm = isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
            if norm and (not settings.norms or any(name.startswith(f) for f in settings.freeze)):
                module.training = False
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.bf16 and has_fast_bfloat16()):
            logits = self.network(pixels)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=settings.smoothing)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        decay = min(settings.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for key, value in self.network.state_dict().items():
                if value.is_floating_point():
                    self.average[key].lerp_(value, 1 - decay)
                else:
                    self.average[key].copy_(value)
        return float(loss.detach())

    def _look(self, loss: float) -> None:
        """Score the averaged weights on the validation split, keep the best, write the state."""
        copy = build(self.settings.config(self.classes))
        copy.load_state_dict(self.average)
        scores = measure(Classifier(copy, self.settings.config(self.classes)), self.split["validation"])
        if scores.macro_f1.value >= self.best_score:  # of equals the later: it is trained longer
            self.best, self.best_score = {k: v.clone() for k, v in self.average.items()}, scores.macro_f1.value
        entry = {"step": self.step, "seconds": round(self.spent, 1), "loss": round(loss, 4)}
        entry |= {"macro_f1": round(scores.macro_f1.value, 4), "accuracy": round(scores.accuracy.value, 4)}
        with (self.out / "train.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        if self.log:
            self.log(entry)
        state = {k: getattr(self, k) for k in ("step", "spent", "average", "best", "best_score")}
        state |= {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict(), "settings": self._key()}
        torch.save(state, self.out / "state.pt.new")
        (self.out / "state.pt.new").replace(self.out / "state.pt")

    def _key(self) -> str:
        return json.dumps([asdict(self.settings), self.classes, len(self.split["train"])])

    def _saved(self) -> dict[str, Any] | None:
        """The state of an interrupted training with the same settings and items, if there is one."""
        file = self.out / "state.pt"
        state = torch.load(file, weights_only=True) if file.is_file() else None
        if state and state["settings"] == self._key():
            return state  # type: ignore[no-any-return]
        (self.out / "train.jsonl").unlink(missing_ok=True)
        return None

    def _resume(self, state: dict[str, Any] | None) -> None:
        if state is None:
            return
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        for key in ("step", "spent", "average", "best", "best_score"):
            setattr(self, key, state[key])
