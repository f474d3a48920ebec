"""Measures of detection: average precision as COCO defines it, F1 and counts at one threshold, intervals over pictures.

Knows boxes alone. The average precision agrees with pycocotools (see the tests); it is written out here because the bootstrap
needs it for a thousand draws of pictures, each from the same matches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pathasst.core.statistics import Interval, draw_counts, f1_interval, mean_interval
from pathasst.nn.detector.boxes import Boxes, iou_matrix

OVERLAPS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
MOST = 300
"""Boxes a picture that count, best first."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What is really there. `xyxy` n×4 float32 px, `classes` n int64."""

    xyxy: np.ndarray
    classes: np.ndarray


@dataclass(frozen=True, slots=True)
class Matches:
    """All pictures' boxes of one class against the truth, best first. `hit` [10, m] bool by overlap."""

    hit: np.ndarray
    scores: np.ndarray
    picture: np.ndarray  # [m] int
    there: np.ndarray  # [pictures] int: how many there are in each


def match(predicted: Boxes, truth: np.ndarray, overlaps: np.ndarray = OVERLAPS) -> np.ndarray:
    """Which boxes of one class, best first, hit a box of the truth: bool [overlaps, n]; each true box is taken once."""
    hit = np.zeros((len(overlaps), len(predicted)), bool)
    if not len(predicted) or not len(truth):
        return hit
    iou = iou_matrix(predicted.xyxy, truth)
    for t, least in enumerate(overlaps):
        free = np.ones(len(truth), bool)
        for i, row in enumerate(iou):
            open_ = np.where(free, row, -1)
            j = int(len(open_) - 1 - open_[::-1].argmax())  # of equals the last, as COCO does
            if open_[j] >= least:
                hit[t, i], free[j] = True, False
    return hit


def collect(predicted: Sequence[Boxes], truth: Sequence[Truth], kind: int | None) -> Matches:
    """The matches of one class over all pictures; None: all classes taken as one."""
    hits, scores, pictures, there = [], [], [], []
    for number, (boxes, true) in enumerate(zip(predicted, truth, strict=True)):
        own = boxes if kind is None else boxes.take(boxes.classes == kind)
        own = own.take(np.argsort(-own.scores, kind="stable")[:MOST])
        real = true.xyxy if kind is None else true.xyxy[true.classes == kind]
        hits.append(match(own, real))
        scores.append(own.scores)
        pictures.append(np.full(len(own), number))
        there.append(len(real))
    order = np.argsort(-np.concatenate(scores), kind="stable")
    joined = np.concatenate(hits, 1)[:, order], np.concatenate(scores)[order], np.concatenate(pictures)[order]
    return Matches(*joined, np.array(there))


def average_precision(matches: Matches, weights: np.ndarray | None = None) -> np.ndarray:
    """COCO's 101-point average precision at each overlap: float [10]; NaN when the class is not there.

    `weights`: how often each picture counts (a bootstrap draw), int [pictures].
    """
    counts = np.ones(len(matches.there), int) if weights is None else weights
    positives = int((counts * matches.there).sum())
    if not positives:
        return np.full(len(OVERLAPS), np.nan)
    each = counts[matches.picture]
    right = np.cumsum(matches.hit * each, 1)
    recall = right / positives
    precision = right / np.maximum(np.cumsum(each), 1)
    precision = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
    values = np.zeros(len(OVERLAPS))
    for t in range(len(OVERLAPS)):
        at = np.searchsorted(recall[t], RECALLS, side="left")
        reached = at < recall.shape[1]
        values[t] = precision[t][at[reached]].sum() / len(RECALLS)
    return values


@dataclass(frozen=True, slots=True)
class ClassScores:
    """One class: average precisions, and what the threshold gives."""

    there: int
    ap50: Interval
    ap: Interval  # mean over IoU 0.50 … 0.95
    f1: Interval  # at IoU 0.5
    precision: float
    recall: float
    count_error: Interval  # mean absolute difference of the number of boxes a picture


@dataclass(frozen=True, slots=True)
class DetectorScores:
    """All of it. Intervals are 95 %, by bootstrap over pictures."""

    pictures: int
    map50: Interval
    map: Interval
    any_class: ClassScores
    classes: dict[str, ClassScores]

    def table(self) -> str:
        """As Markdown."""
        lines = [
            "| class | boxes | AP@0.5 | AP@0.5:0.95 | F1 | precision | recall | count error a picture |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for name, s in {**self.classes, "any class": self.any_class}.items():
            shares = f"{s.precision:.3f} | {s.recall:.3f} | {s.count_error}"
            lines.append(f"| {name} | {s.there} | {s.ap50} | {s.ap} | {s.f1} | {shares} |")
        lines.append(f"| **mean** | {sum(s.there for s in self.classes.values())} | {self.map50} | {self.map} | | | | |")
        return "\n".join(lines)


def evaluate(
    predicted: Sequence[Boxes],
    truth: Sequence[Truth],
    names: dict[int, str],
    threshold: float,
    *,
    draws: int = 500,
    seed: int = 0,
) -> DetectorScores:
    """Measure the boxes of some pictures, found with a low least score (0.01), against the truth.

    `names`: the classes to be measured, by id. A class that is nowhere in the truth does not count in the means.
    """
    weights = draw_counts(len(truth), draws, seed)
    each, spreads, rows = {}, [], []
    for kind, name in names.items():
        scores, points, spread = _measure(predicted, truth, kind, threshold, weights)
        each[name] = scores
        spreads.append(spread)
        rows.append(points)
    averages = [float(np.nanmean([row[i] for row in rows])) for i in (0, 1)]
    together = np.nanmean(np.stack(spreads), 0) if spreads else np.zeros((draws, 2))
    means = [_interval(value, together[:, i]) for i, value in enumerate(averages)]
    return DetectorScores(len(truth), means[0], means[1], _measure(predicted, truth, None, threshold, weights)[0], each)


def mean_ap(predicted: Sequence[Boxes], truth: Sequence[Truth], classes: Sequence[int]) -> tuple[float, float]:
    """mAP@0.5 and mAP@0.5:0.95 without intervals."""
    rows = np.array([average_precision(collect(predicted, truth, kind)) for kind in classes])
    return float(np.nanmean(rows[:, 0])), float(np.nanmean(rows))


def best_threshold(predicted: Sequence[Boxes], truth: Sequence[Truth], classes: Sequence[int]) -> float:
    """The score with the best mean of the classes' F1 at IoU 0.5, out of 0.05, 0.10 … 0.90."""
    matched = [collect(predicted, truth, kind) for kind in classes]
    present = [m for m in matched if m.there.sum()]

    def mean_f1(least: float) -> float:
        above = [(m.hit[0][m.scores >= least], int(m.there.sum())) for m in present]
        return float(np.mean([2 * hit.sum() / max(len(hit) + there, 1) for hit, there in above])) if above else 0.0

    return round(float(max(np.arange(0.05, 0.91, 0.05), key=mean_f1)), 2)


def _measure(
    predicted: Sequence[Boxes], truth: Sequence[Truth], kind: int | None, threshold: float, weights: np.ndarray
) -> tuple[ClassScores, tuple[float, float], np.ndarray]:
    matches = collect(predicted, truth, kind)
    values = average_precision(matches)
    spread = np.array([(v[0], v.mean()) for v in (average_precision(matches, w) for w in weights)])
    above = matches.scores >= threshold
    pictures = len(matches.there)
    boxes = np.bincount(matches.picture[above], minlength=pictures)
    right = np.bincount(matches.picture[above & matches.hit[0]], minlength=pictures)
    counts = np.stack([right, boxes - right, matches.there - right], 1)
    tp, fp, fn = (int(v) for v in counts.sum(0))
    scores = ClassScores(
        there=int(matches.there.sum()),
        ap50=_interval(values[0], spread[:, 0]),
        ap=_interval(values.mean(), spread[:, 1]),
        f1=f1_interval(counts),
        precision=tp / max(tp + fp, 1),
        recall=tp / max(tp + fn, 1),
        count_error=mean_interval(np.abs(boxes - matches.there)),
    )
    return scores, (float(values[0]), float(values.mean())), spread


def _interval(value: float, spread: np.ndarray) -> Interval:
    if np.isnan(spread).all():
        return Interval(float(value), float("nan"), float("nan"))
    low, high = np.nanpercentile(spread, [2.5, 97.5])
    return Interval(float(value), float(low), float(high))
