"""F1, accuracy and retrieval recall with bootstrap intervals over whole clusters (originals, slides). Knows arrays alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pathasst.core.statistics import Interval, sums_interval


@dataclass(frozen=True, slots=True)
class ClassificationScores:
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
) -> ClassificationScores:
    """Macro F1, weighted F1 and accuracy of class numbers, with a cluster bootstrap (each item its own cluster by default).

    Classes that never occur in the truth do not count for the macro mean; a draw that lacks a class counts the others.
    """
    truth_, predicted_ = np.asarray(truth, int), np.asarray(predicted, int)
    cells = np.zeros((len(truth_), classes, classes))
    cells[np.arange(len(truth_)), truth_, predicted_] = 1
    per_item = cells.reshape(len(truth_), -1)

    def interval(part: int) -> Interval:
        return sums_interval(lambda sums: _of_confusion(sums.reshape(-1, classes, classes))[part], per_item, clusters, seed=seed)

    number = len(truth_) if clusters is None else len(set(clusters))
    return ClassificationScores(interval(0), interval(1), interval(2), cells.sum(axis=0).astype(int), len(truth_), number)


def _of_confusion(tables: np.ndarray) -> np.ndarray:
    """[draws, c, c] → [3, draws]: macro F1, weighted F1, accuracy."""
    hits = np.diagonal(tables, axis1=1, axis2=2)
    support, predicted = tables.sum(axis=2), tables.sum(axis=1)
    f1 = 2 * hits / np.maximum(support + predicted, 1)
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
