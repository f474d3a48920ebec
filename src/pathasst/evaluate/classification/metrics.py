"""F1, balanced accuracy and calibration with intervals clustered by patient or original. Knows arrays alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pathasst.core.statistics import Interval, sums_interval

METRICS = ("macro F1", "weighted F1", "balanced accuracy", "accuracy")
BINS = 15
"""Of equal width, for the calibration error (Guo et al. 2017)."""


def class_scores(
    truth: np.ndarray, predicted: np.ndarray, classes: int, clusters: Sequence[str], seed: int = 0
) -> dict[str, Interval]:
    """Every metric of `METRICS` for class numbers int [n]. Classes that the truth lacks do not count for the macro means."""
    cells = np.zeros((len(truth), classes * classes))
    cells[np.arange(len(truth)), truth * classes + predicted] = 1
    return {
        name: sums_interval(
            lambda sums, n=n: of_confusion(sums.reshape(-1, classes, classes))[n],  # type: ignore[misc]
            cells,
            clusters,
            seed=seed,
        )
        for n, name in enumerate(METRICS)
    }


def of_confusion(tables: np.ndarray) -> np.ndarray:
    """Confusion matrices [draws, c, c], rows = truth → [4, draws]: macro F1, weighted F1, balanced accuracy, accuracy."""
    hits = np.diagonal(tables, axis1=1, axis2=2)
    support, predicted = tables.sum(axis=2), tables.sum(axis=1)
    f1, recall = 2 * hits / np.maximum(support + predicted, 1), hits / np.maximum(support, 1)
    present = support > 0
    count, total = np.maximum(present.sum(axis=1), 1), np.maximum(support.sum(axis=1), 1)
    macro, balanced = ((x * present).sum(axis=1) / count for x in (f1, recall))
    return np.stack([macro, (f1 * support).sum(axis=1) / total, balanced, hits.sum(axis=1) / total])


def macro_f1(truth: np.ndarray, predicted: np.ndarray, classes: int) -> float:
    """Macro F1 alone, where it is needed often: random prompts, choice of a setting."""
    table = np.bincount(truth * classes + predicted, minlength=classes * classes).reshape(1, classes, classes)
    return float(of_confusion(table)[0, 0])


def calibration_error(
    probabilities: np.ndarray, truth: np.ndarray, clusters: Sequence[str], bins: int = BINS, seed: int = 0
) -> Interval:
    """Expected calibration error of the first choice, 0…1: Σ over bins of its share · |accuracy − confidence|.

    probabilities: float [n, classes]; truth: int [n].
    """
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    cells = np.zeros((len(truth), 2, bins))
    rows = np.arange(len(truth))
    cells[rows, 0, place], cells[rows, 1, place] = right - confidence, 1

    def error(sums: np.ndarray) -> np.ndarray:
        parts = sums.reshape(-1, 2, bins)
        return np.abs(parts[:, 0]).sum(axis=1) / np.maximum(parts[:, 1].sum(axis=1), 1)

    return sums_interval(error, cells.reshape(len(truth), -1), clusters, seed=seed)
