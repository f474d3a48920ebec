"""How well predicted objects (nuclei, glands) agree with the true ones: PQ, AJI, Dice, F1 at an IoU. Knows label arrays alone.

A label array is H×W of whole numbers, 0 where nothing is and another number for each object, in any order and with gaps.

- DQ, SQ, PQ: panoptic quality (Kirillov et al. 2019) as HoVer-Net uses it for nuclei; pairs have IoU > 0.5 and are unique.
- AJI: aggregated Jaccard index (Kumar et al. 2017): every true object takes the prediction of the largest IoU, even one that
  another took before. AJI+ (Graham et al. 2019) assigns one to one, which does not punish a prediction twice.
- F1 at an IoU: pairs of at least that IoU, as many as a one-to-one assignment can make (StarDist, Data Science Bowl 2018).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pathasst.core.errors import BadInput
from pathasst.core.statistics import Interval, sums_interval

THRESHOLDS = (0.5, 0.75, 0.9)
"""IoUs at which F1 is counted."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """What the objects of two label arrays share, in px. Rows: true objects, columns: predicted ones, by their numbers."""

    intersection: np.ndarray  # int64 [truths, predictions]
    truth_area: np.ndarray  # int64 [truths]
    prediction_area: np.ndarray  # int64 [predictions]

    @property
    def union(self) -> np.ndarray:
        """int64 [truths, predictions]."""
        return self.truth_area[:, None] + self.prediction_area[None] - self.intersection

    @property
    def iou(self) -> np.ndarray:
        """float64 [truths, predictions] in 0…1."""
        return self.intersection / np.maximum(self.union, 1)


@dataclass(frozen=True, slots=True)
class InstanceScores:
    """The agreement of one picture, or of several pooled ones. A share is NaN where neither side has an object."""

    truths: int
    predictions: int
    dq: float  # detection quality: F1 of the pairs with IoU > 0.5
    sq: float  # segmentation quality: their mean IoU; 0 without a pair
    pq: float  # dq · sq
    aji: float
    aji_plus: float
    dice: float  # of the foregrounds, whoever they belong to
    f1: dict[float, float]  # IoU → F1


def overlap(truth: np.ndarray, prediction: np.ndarray) -> Overlap:
    """Areas of the objects of two label arrays H×W, and of what each two share. Raises BadInput for arrays of unlike shape."""
    if truth.shape != prediction.shape or truth.ndim != 2:
        raise BadInput(f"label arrays must be H×W and of one size, not {truth.shape} and {prediction.shape}.")
    true_numbers, true_at = np.unique(truth, return_inverse=True)
    numbers, at = np.unique(prediction, return_inverse=True)
    shape = len(true_numbers), len(numbers)
    table = np.bincount(true_at.ravel() * shape[1] + at.ravel(), minlength=shape[0] * shape[1]).reshape(shape)
    rows, columns = true_numbers != 0, numbers != 0
    return Overlap(table[rows][:, columns], table[rows].sum(1), table[:, columns].sum(0))


def pairs_at(iou: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the one-to-one pairs with IoU ≥ `threshold`: as many as possible, and of these the best overlapping."""
    from scipy.optimize import linear_sum_assignment

    if not iou.size:
        return np.zeros(0, int), np.zeros(0, int)
    allowed = iou >= threshold
    rows, columns = linear_sum_assignment(np.where(allowed, 1 + iou / (2 * min(iou.shape)), 0), maximize=True)
    right = allowed[rows, columns]
    return rows[right], columns[right]


def score_instances(truth: np.ndarray, prediction: np.ndarray, thresholds: Sequence[float] = THRESHOLDS) -> InstanceScores:
    """All scores of one picture; label arrays H×W. Raises BadInput for arrays of unlike size."""
    return pool_instances([truth], [prediction], thresholds)


def pool_instances(
    truths: Sequence[np.ndarray], predictions: Sequence[np.ndarray], thresholds: Sequence[float] = THRESHOLDS
) -> InstanceScores:
    """The scores of several pictures as of one large one: areas and pairs are added up, then divided (CoNIC's PQ+).

    A picture without objects then adds its false positives and no zero. For the mean over pictures (HoVer-Net's tables), average
    `score_instances` of each.
    """
    sums = np.sum([sums_of(overlap(t, p), thresholds) for t, p in zip(truths, predictions, strict=True)], axis=0)
    return _scores(sums, thresholds)


def instance_intervals(
    truths: Sequence[np.ndarray],
    predictions: Sequence[np.ndarray],
    clusters: Sequence[str] | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
) -> dict[str, Interval]:
    """Pooled PQ, AJI, AJI+, Dice and F1 at each IoU with 95 % intervals; the bootstrap draws clusters (patients), or pictures."""
    rows = np.array([sums_of(overlap(t, p), thresholds) for t, p in zip(truths, predictions, strict=True)])

    def interval(pick: str, threshold: float | None = None) -> Interval:
        def of_draws(draws: np.ndarray) -> np.ndarray:
            scores = [_scores(d, thresholds) for d in draws]
            return np.array([s.f1[threshold] if threshold is not None else getattr(s, pick) for s in scores])

        return sums_interval(of_draws, rows, clusters)

    named = {"PQ": "pq", "DQ": "dq", "SQ": "sq", "AJI": "aji", "AJI+": "aji_plus", "Dice": "dice"}
    return {k: interval(v) for k, v in named.items()} | {f"F1@{t:g}": interval("f1", t) for t in thresholds}


def sums_of(shared: Overlap, thresholds: Sequence[float] = THRESHOLDS) -> np.ndarray:
    """What the scores are quotients of, so that pictures can be added: float64 [11 + thresholds].

    truths, predictions, pairs with IoU > 0.5 and the sum of their IoU, AJI's intersection and union, AJI+'s, the px that both
    foregrounds share, px of the true and of the predicted one, then the pairs at each threshold.
    """
    iou, union, area = shared.iou, shared.union, shared.prediction_area
    close = iou > 0.5
    head = [len(iou), len(area), close.sum(), iou[close].sum()]
    best = iou.argmax(1) if iou.size else np.zeros(0, int)
    touched = np.flatnonzero(iou[np.arange(len(best)), best] > 0) if iou.size else np.zeros(0, int)
    aggregates = [_aggregate(shared, union, touched, best[touched]), _aggregate(shared, union, *pairs_at(iou, 1e-12))]
    foreground = [shared.intersection.sum(), shared.truth_area.sum(), area.sum()]
    return np.array([*head, *aggregates[0], *aggregates[1], *foreground, *(len(pairs_at(iou, t)[0]) for t in thresholds)], float)


def _aggregate(shared: Overlap, union: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> tuple[int, int]:
    """AJI's numerator and denominator: what has no partner counts with its whole area."""
    missed = np.setdiff1d(np.arange(len(shared.truth_area)), rows)
    spare = np.setdiff1d(np.arange(len(shared.prediction_area)), columns)
    without = shared.truth_area[missed].sum() + shared.prediction_area[spare].sum()
    return int(shared.intersection[rows, columns].sum()), int(union[rows, columns].sum() + without)


def _scores(sums: np.ndarray, thresholds: Sequence[float]) -> InstanceScores:
    truths, predictions, close, iou, *areas = sums[:11]
    hits = sums[11:]
    either = truths + predictions > 0

    def share(above: float, below: float) -> float:
        return float(above / below) if below else (0.0 if either else math.nan)

    dq, sq = share(2 * close, truths + predictions), share(iou, close)
    return InstanceScores(
        truths=round(truths),
        predictions=round(predictions),
        dq=dq,
        sq=sq,
        pq=dq * sq,
        aji=share(areas[0], areas[1]),
        aji_plus=share(areas[2], areas[3]),
        dice=share(2 * areas[4], areas[5] + areas[6]),
        f1={t: share(2 * h, truths + predictions) for t, h in zip(thresholds, hits, strict=True)},
    )
