"""Fitting a head by a recipe: labelled crops, random views, and cross-validation by group for all that is chosen.

Temperature, the limit of the distance and the least probabilities of a statement come from folds in which no smear, field or
patient stands on both sides; the head that is kept is then fitted on everything. Knows no pathology.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import model_validator
from scipy.special import softmax

from pathasst.core.errors import BadDataset
from pathasst.core.settings import Field, Settings
from pathasst.nn import heads
from pathasst.nn.classifier.augment import vary
from pathasst.nn.classifier.items import ClassifierItem, read_picture, read_source
from pathasst.nn.classifier.scores import evaluate
from pathasst.nn.classifier.settings import ClassifierTraining, PictureSource
from pathasst.nn.heads import Head, HeadOutput

SIDE = 224  # px of the network's square
ENOUGH = 20  # statements below which a share of right ones says nothing
LEVELS = np.linspace(0.3, 0.99, 70)
NEVER = 1.01


class HeadTraining(Settings):
    """How a head on EfficientNet-Lite0 is fitted."""

    room: ClassVar[str] = "head"

    data: tuple[PictureSource, ...] = Field(min_length=1, description="Sources of labelled pictures; no split is read.")
    classes: tuple[str, ...] = Field(min_length=2, description="Pictures of other labels are left out.")
    views: int = Field(default=2, ge=1, description="Views of each picture, the plain one among them.")
    colour: float = Field(default=0.15, ge=0, description="Strength of the random change of stain, brightness and white.")
    zoom: float = Field(default=0.2, ge=0, description="Views are scaled by a factor in 1 ± zoom, and moved as much.")
    strength: float = Field(default=10.0, gt=0, description="C of the logistic regression.")
    right: float = Field(default=0.9, gt=0, le=1, description="Share of the statements of each source that must be right.")
    missed: dict[str, float] = Field(
        default={}, description="Class → greatest share of any other class, of any source, that may be stated as it."
    )
    folds: int = Field(default=5, ge=2)
    seed: int = 0

    @model_validator(mode="after")
    def _check_missed(self) -> Self:
        if unknown := set(self.missed) - set(self.classes):
            raise ValueError(f"missed names {', '.join(sorted(unknown))}, which are no classes")
        return self

    def rooted(self, root: Path) -> Self:
        """The same settings, relative paths of the data starting at `root`."""
        return self.replace(data=tuple(source.replace(path=str(root / source.path)) for source in self.data))


@dataclass(frozen=True, slots=True)
class HeadPictures:
    """Labelled pictures as features. `views`: float16 [v, n, 6192], the plain pictures first; the others [n]."""

    views: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    sources: np.ndarray

    def part(self, places: np.ndarray) -> HeadPictures:
        """Those at some places, or of a mask [n]."""
        return HeadPictures(self.views[:, places], self.labels[places], self.groups[places], self.sources[places])


def read_pictures(settings: HeadTraining, say: Callable[[str], None] = lambda line: None) -> HeadPictures:
    """The features of every labelled picture, some 40 views a second on a core. Raises BadDataset, MissingWeights."""
    items = [i for source in settings.data for i in read_source(source) if i.label in settings.classes]
    if absent := set(settings.classes) - {i.label for i in items}:
        raise BadDataset(f"no picture is labelled {', '.join(sorted(absent))}")
    return HeadPictures(
        _views(settings, items, say), *(np.array([getattr(i, name) for i in items]) for name in ("label", "group", "source"))
    )


def _views(settings: HeadTraining, items: Sequence[ClassifierItem], say: Callable[[str], None]) -> np.ndarray:
    change = ClassifierTraining(size=SIDE, colour=settings.colour, zoom=settings.zoom)
    views = np.zeros((settings.views, len(items), heads.FEATURES), np.float16)
    for start in range(0, len(items), 64):
        pictures = [read_picture(i) for i in items[start : start + 64]]
        views[0, start : start + 64] = heads.features_of(pictures)
        for view in range(1, settings.views):
            varied = [vary(p, change, np.random.default_rng((settings.seed, view, start + n))) for n, p in enumerate(pictures)]
            views[view, start : start + 64] = heads.features_of(varied)
        say(f"{min(start + 64, len(items))} of {len(items)} pictures seen")
    return views


@dataclass(frozen=True, slots=True)
class CrossValidated:
    """What the folds gave of each picture, and what was chosen by it: temperature, limit of the distance, least probabilities."""

    head: Head
    """Without tensors: the classes and what was chosen."""
    output: HeadOutput
    pictures: HeadPictures

    def scores(self) -> dict[str, Any]:
        """For all pictures and for each source: see `scores_of`."""
        sources = self.pictures.sources
        parts = {"all": np.ones(len(sources), bool)} | {str(s): sources == s for s in sorted(set(sources.tolist()))}
        return {
            name: scores_of(
                self.head, HeadOutput(self.output.probabilities[of], self.output.distances[of]), self.pictures.part(of)
            )
            for name, of in parts.items()
        }


def cross_validate(settings: HeadTraining, pictures: HeadPictures) -> CrossValidated:
    """Folds by group. The limit refuses `heads.REFUSED` of the pictures; the temperature has the least log loss."""
    from sklearn.model_selection import StratifiedGroupKFold

    classes, labels = settings.classes, pictures.labels
    logits, distances = np.zeros((len(labels), len(classes))), np.zeros(len(labels))
    folds = StratifiedGroupKFold(settings.folds, shuffle=True, random_state=settings.seed)
    for train_places, test in folds.split(labels, labels, pictures.groups):
        head = fitted(settings, pictures.part(train_places))
        logits[test] = head.logits(pictures.views[0, test])
        distances[test] = heads.distance(pictures.views[0, test], head.tensors)
    truth = np.array([classes.index(label) for label in labels])
    grid = np.geomspace(0.1, 10, 100)
    losses = [-np.log(softmax(logits / t, axis=1)[np.arange(len(truth)), truth] + 1e-9).mean() for t in grid]
    temperature, limit = float(grid[int(np.argmin(losses))]), float(np.quantile(distances, 1 - heads.REFUSED))
    output = HeadOutput(softmax(logits / temperature, axis=1), distances / limit)
    head = Head(classes, {}, round(temperature, 3), round(limit, 3), least_of(settings, output, truth, pictures.sources))
    return CrossValidated(head, output, pictures)


def least_of(settings: HeadTraining, output: HeadOutput, truth: np.ndarray, sources: np.ndarray) -> tuple[float, ...]:
    """The probability of each class from which on it is stated: enough statements of every source are right, and no class of
    any source is stated too often as one that must not hide it (`missed`)."""
    odds = output.probabilities
    predicted, best = odds.argmax(1), odds.max(1)
    near, right, names = output.distances <= 1, predicted == truth, sorted(set(sources.tolist()))
    parts = [sources == s for s in names]

    def precise(level: float) -> bool:
        stated = [near & (best >= level) & part for part in parts]
        return all(s.sum() >= ENOUGH and right[s].mean() >= settings.right for s in stated)

    def missed(level: float, number: int, share: float) -> bool:
        stated = near & (predicted == number) & (best >= level)
        others = [part & (truth == c) for part in parts for c in set(truth.tolist()) - {number}]
        return any(of.sum() >= ENOUGH and stated[of].mean() > share for of in others)

    least = next((float(v) for v in LEVELS if precise(v)), NEVER)
    return tuple(
        round(max(least, next((float(v) for v in LEVELS if not missed(v, n, settings.missed.get(name, 1.0))), NEVER)), 3)
        for n, name in enumerate(settings.classes)
    )


def fitted(settings: HeadTraining, pictures: HeadPictures) -> Head:
    """A head on some pictures, uncalibrated."""
    return heads.fit(pictures.views, pictures.labels.tolist(), pictures.sources.tolist(), settings.classes, settings.strength)


def train(settings: HeadTraining, out: Path, say: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Measure in folds, fit on everything, write `model.safetensors`, `config.json` and `scores.json`; returns the scores.

    Raises BadDataset, MissingWeights.
    """
    pictures = read_pictures(settings, say)
    checked = cross_validate(settings, pictures)
    save(settings, pictures, checked, out)
    scores = checked.scores()
    text = json.dumps({"scores": scores, "settings": settings.plain()}, indent=1, ensure_ascii=False, default=str)
    (out / "scores.json").write_text(text, encoding="utf-8")
    return scores


def save(settings: HeadTraining, pictures: HeadPictures, checked: CrossValidated, out: Path) -> None:
    """Fit on everything and write the head, with what the folds chose."""
    final, checked_head = fitted(settings, pictures), checked.head
    Head(final.classes, final.tensors, checked_head.temperature, checked_head.limit, checked_head.least).save(out)


def scores_of(head: Head, output: HeadOutput, pictures: HeadPictures) -> dict[str, Any]:
    """n, groups, macro F1 and accuracy of the likeliest class with 95 % intervals that draw groups, F1 of each class, and of the
    statements: their share, how many are right, and for each class as what it is stated ("" where it is not)."""
    labels = pictures.labels.tolist()
    scores = evaluate(output.probabilities, [head.classes.index(c) for c in labels], head.classes, pictures.groups.tolist())
    stated = np.array(head.statements(output))
    answered = stated != ""
    counts = {
        c: {s or "not stated": int(((pictures.labels == c) & (stated == s)).sum()) for s in (*head.classes, "")}
        for c in head.classes
    }
    return {
        "n": scores.n,
        "groups": scores.groups,
        "macro F1": scores.macro_f1,
        "accuracy": scores.accuracy,
        "F1": {c: scores.per_class[c]["f1"] for c in head.classes},
        "stated": float(answered.mean()),
        "right of stated": float((stated == pictures.labels)[answered].mean()) if answered.any() else None,
        "unlike": float((output.distances > 1).mean()),
        "stated as": counts,
    }
