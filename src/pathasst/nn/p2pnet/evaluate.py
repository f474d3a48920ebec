"""Scores of point detection: greedy one-to-one matching within a radius, F1 per class, labelling index. Knows no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pathasst.imaging.points import RADIUS, greedy_match


@dataclass(frozen=True, slots=True)
class MatchCounts:
    """True positives, false positives, false negatives."""

    tp: int = 0
    fp: int = 0
    fn: int = 0

    def __add__(self, other: MatchCounts) -> MatchCounts:
        return MatchCounts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn)

    @property
    def precision(self) -> float:
        return self.tp / (self.tp + self.fp) if self.tp + self.fp else 0.0

    @property
    def recall(self) -> float:
        return self.tp / (self.tp + self.fn) if self.tp + self.fn else 0.0

    @property
    def f1(self) -> float:
        """2·TP / (2·TP + FP + FN); 0 where nothing is there and nothing was found."""
        total = 2 * self.tp + self.fp + self.fn
        return 2 * self.tp / total if total else 0.0


def count(
    predicted: np.ndarray,
    scores: np.ndarray,
    classes: np.ndarray,
    cells: np.ndarray,
    labels: np.ndarray,
    n: int,
    radius: float = RADIUS,
) -> list[MatchCounts]:
    """Counts of one picture: first of detection (any class), then of each class 0…n−1, matched within the class alone.

    `predicted` P×2 px, `scores` P, `classes` P class ids; `cells` M×2 px, `labels` M class ids.
    """

    def one(rows: np.ndarray, there: np.ndarray) -> MatchCounts:
        tp = len(greedy_match(predicted[rows], scores[rows], cells[there], radius))
        return MatchCounts(tp, int(rows.sum()) - tp, int(there.sum()) - tp)

    everything = one(np.ones(len(predicted), bool), np.ones(len(cells), bool))
    return [everything, *(one(classes == c, labels == c) for c in range(n))]


def interval(per_picture: Sequence[Sequence[MatchCounts]], column: int, draws: int = 2000, seed: int = 0) -> tuple[float, float]:
    """95 % bootstrap interval of the pooled F1 in one column of `count`'s lists; pictures are what is drawn."""
    rows = np.array([[c[column].tp, c[column].fp, c[column].fn] for c in per_picture], float)
    rng = np.random.default_rng(seed)
    sums = rows[rng.integers(0, len(rows), (draws, len(rows)))].sum(1)
    f1 = 2 * sums[:, 0] / np.maximum(2 * sums[:, 0] + sums[:, 1] + sums[:, 2], 1)
    low, high = np.percentile(f1, [2.5, 97.5])
    return float(low), float(high)


def labelling_index(positive: int, negative: int) -> float | None:
    """Positive cells in per cent of all; None without cells."""
    return 100 * positive / (positive + negative) if positive + negative else None
