"""F1, accuracy and retrieval recall with bootstrap intervals. Knows arrays alone.

The bootstrap draws whole clusters (originals, slides, articles) with replacement, since copies are no new evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

DRAWS = 1000


@dataclass(frozen=True, slots=True)
class Interval:
    """A measured value with its 95 % interval (percentiles of the bootstrap)."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True, slots=True)
class ClassScores:
    """Scores of a classification."""

    macro_f1: Interval  # over the classes that occur in the truth
    weighted_f1: Interval
    accuracy: Interval
    confusion: np.ndarray  # int [classes, classes], rows = truth
    n: int
    clusters: int


def class_scores(
    truth: Sequence[int] | np.ndarray,
    predicted: Sequence[int] | np.ndarray,
    classes: int,
    clusters: Sequence[str] | None = None,
    seed: int = 0,
) -> ClassScores:
    """Macro F1, weighted F1 and accuracy of class numbers, with a cluster bootstrap (each item its own cluster by default).

    Classes that never occur in the truth do not count for the macro mean; a draw that lacks a class counts the others.
    """
    truth_, predicted_ = np.asarray(truth, int), np.asarray(predicted, int)
    names, index = np.unique(np.arange(len(truth_)) if clusters is None else np.asarray(clusters), return_inverse=True)
    by_cluster = np.zeros((len(names), classes, classes))
    np.add.at(by_cluster, (index, truth_, predicted_), 1)
    draws = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), DRAWS)
    tables = (draws @ by_cluster.reshape(len(names), -1)).reshape(DRAWS, classes, classes)
    whole = by_cluster.sum(axis=0)
    values, spread = _of_confusion(whole[None]), _of_confusion(tables)
    low, high = np.percentile(spread, [2.5, 97.5], axis=1)
    macro, weighted, accuracy = (Interval(float(values[i, 0]), float(low[i]), float(high[i])) for i in range(3))
    return ClassScores(macro, weighted, accuracy, whole.astype(int), len(truth_), len(names))


def _of_confusion(tables: np.ndarray) -> np.ndarray:
    """[draws, c, c] → [3, draws]: macro F1, weighted F1, accuracy."""
    hits = np.diagonal(tables, axis1=1, axis2=2)
    support, said = tables.sum(axis=2), tables.sum(axis=1)
    f1 = 2 * hits / np.maximum(support + said, 1)
    present, total = support > 0, np.maximum(support.sum(axis=1), 1)
    macro = (f1 * present).sum(axis=1) / np.maximum(present.sum(axis=1), 1)
    return np.stack([macro, (f1 * support).sum(axis=1) / total, hits.sum(axis=1) / total])


def recall_at(similarity: np.ndarray, positives: Sequence[Sequence[int]], ks: Sequence[int]) -> np.ndarray:
    """Per query and k, whether a positive is among the k nearest: bool [queries, len(ks)].

    similarity: [queries, items]; positives: for each query the right items. Equal similarities count against the query, so that a
    model that gives everything the same score finds nothing.
    """
    out = np.zeros((len(similarity), len(ks)), bool)
    for q, right in enumerate(positives):
        row = similarity[q]
        best = row[list(right)].max()
        others = np.ones(len(row), bool)
        others[list(right)] = False
        rank = int((row[others] >= best).sum())  # wrong items at least as near as the best right one
        out[q] = [rank < k for k in ks]
    return out


def mean_interval(values: np.ndarray, clusters: Sequence[str] | None = None, seed: int = 0) -> Interval:
    """The mean of per-item values with a cluster bootstrap."""
    values = np.asarray(values, float)
    names, index = np.unique(np.arange(len(values)) if clusters is None else np.asarray(clusters), return_inverse=True)
    sums, sizes = np.bincount(index, values), np.bincount(index)
    draws = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), DRAWS)
    spread = (draws @ sums) / (draws @ sizes)
    low, high = np.percentile(spread, [2.5, 97.5])
    return Interval(float(values.mean()), float(low), float(high))
