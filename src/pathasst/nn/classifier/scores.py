"""Scores of a classification: F1, confusion, calibration, each with its interval by group. Knows arrays alone."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pathasst.core.statistics import Interval, sums_interval


@dataclass(frozen=True, slots=True)
class ClassifierScores:
    """What was measured on n pictures. `confusion[i, j]`: pictures of class i that were called j."""

    n: int
    groups: int
    macro_f1: Interval
    weighted_f1: Interval
    accuracy: Interval
    per_class: dict[str, dict[str, float]]  # precision, recall, f1, n
    confusion: np.ndarray
    ece: float  # expected calibration error, ten equal-width bins

    def plain(self) -> dict[str, Any]:
        """As JSON can carry it."""
        names = ("macro_f1", "weighted_f1", "accuracy")
        spans = {
            k: {"value": round(v.value, 4), "interval": [round(v.low, 4), round(v.high, 4)]}
            for k in names
            for v in [getattr(self, k)]
        }
        return {
            "n": self.n,
            "groups": self.groups,
            **spans,
            "per_class": self.per_class,
            "confusion": self.confusion.tolist(),
            "ece": round(self.ece, 4),
        }


def evaluate(
    probabilities: np.ndarray,
    labels: Sequence[int] | np.ndarray,
    classes: Sequence[str],
    groups: Sequence[Hashable] | None = None,
) -> ClassifierScores:
    """Scores of `probabilities` [n, classes] against class numbers; the bootstrap draws whole groups.

    Macro F1 is the mean over the classes that occur among the labels. Weighted F1 weights by their numbers.
    """
    labels = np.asarray(labels, int)
    k, predicted = len(classes), probabilities.argmax(1)
    cells = np.zeros((len(labels), k * k))
    cells[np.arange(len(labels)), labels * k + predicted] = 1
    confusion = cells.sum(0).reshape(k, k).astype(int)
    groups = list(range(len(labels))) if groups is None else list(groups)

    def interval(score: Any) -> Interval:
        return sums_interval(lambda sums: score(sums.reshape(-1, k, k)), cells, groups)

    precision, recall, f1 = (v[0] for v in _rates(confusion[None]))
    return ClassifierScores(
        n=len(labels),
        groups=len(set(groups)),
        macro_f1=interval(macro_f1),
        weighted_f1=interval(weighted_f1),
        accuracy=interval(lambda c: np.trace(c, axis1=1, axis2=2) / np.maximum(c.sum((1, 2)), 1)),
        per_class={
            name: {
                "precision": _round(precision[i]),
                "recall": _round(recall[i]),
                "f1": _round(f1[i]),
                "n": int(confusion[i].sum()),
            }
            for i, name in enumerate(classes)
        },
        confusion=confusion,
        ece=calibration_error(probabilities, labels),
    )


def _round(value: float) -> float:
    return round(float(value), 4)


def _rates(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall, F1 per class, each [draws, k], of confusions [draws, k, k]."""
    hit = np.diagonal(confusion, axis1=1, axis2=2)
    predicted, true = confusion.sum(1), confusion.sum(2)
    return hit / np.maximum(predicted, 1), hit / np.maximum(true, 1), 2 * hit / np.maximum(predicted + true, 1)


def macro_f1(confusion: np.ndarray) -> np.ndarray:
    """Mean F1 of the classes that occur, [draws], of [draws, k, k]."""
    true = confusion.sum(2) > 0
    mean: np.ndarray = (_rates(confusion)[2] * true).sum(1) / np.maximum(true.sum(1), 1)
    return mean


def weighted_f1(confusion: np.ndarray) -> np.ndarray:
    """F1 weighted by the classes' numbers, [draws], of [draws, k, k]."""
    true = confusion.sum(2)
    mean: np.ndarray = (_rates(confusion)[2] * true).sum(1) / np.maximum(true.sum(1), 1)
    return mean


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 10) -> float:
    """Mean gap between confidence and accuracy over equal-width bins, weighted by their numbers (Guo et al. 2017)."""
    if not len(labels):
        return 0.0
    sure, right = probabilities.max(1), probabilities.argmax(1) == labels
    place = np.minimum((sure * bins).astype(int), bins - 1)
    gaps = [
        abs(sure[place == b].mean() - right[place == b].mean()) * (place == b).mean() for b in range(bins) if (place == b).any()
    ]
    return float(sum(gaps))
