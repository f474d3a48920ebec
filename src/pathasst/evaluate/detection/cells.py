"""Cell points of a tool against labelled ones, from two tables: both rules of matching, and the agreement of an index.

A table is a CSV with image, x, y and, where there are, label, score and patient (or slide, case, original), in px.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pathasst.core.errors import BadDataset
from pathasst.core.statistics import Interval, f1_interval, sums_interval
from pathasst.core.tables import first, read_table
from pathasst.evaluate.detection.agreement import agreement, draw_bland_altman
from pathasst.evaluate.leaderboard import Score
from pathasst.evaluate.predictions import key_of
from pathasst.evaluate.table import Table
from pathasst.imaging.points import RADIUS, match_both

ALL = "any label"


@dataclass(frozen=True, slots=True)
class Points:
    """The points of one picture: float [n, 2] px, labels, scores; the cluster it belongs to."""

    xy: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    cluster: str

    def of(self, label: str) -> tuple[np.ndarray, np.ndarray]:
        """Points and scores of one label; `ALL`: of every one."""
        rows = np.ones(len(self.xy), bool) if label == ALL else self.labels == label
        return self.xy[rows], self.scores[rows]


def read_points(path: Path) -> dict[str, Points]:
    """Picture → points. A row without x and y names a picture without points. Raises BadDataset."""
    rows: dict[str, list[dict[str, str]]] = {}
    try:
        _, lines = read_table(path)
        for _, row in lines:
            rows.setdefault(Path(row["image"].strip()).name, []).append(row)
        return {image: _points(image, points) for image, points in rows.items()}
    except (OSError, KeyError, ValueError, csv.Error) as error:
        raise BadDataset(f"{path}: expected a CSV with image, x, y (and label, score, patient); {error!r}") from error


def _points(image: str, rows: Sequence[dict[str, str]]) -> Points:
    there = [r for r in rows if r.get("x", "").strip()]
    return Points(
        np.array([[float(r["x"]), float(r["y"])] for r in there], float).reshape(-1, 2),
        np.array([r.get("label", "").strip() for r in there], object),
        np.array([float(r.get("score") or 1) for r in there], float),
        first(rows[0], ("patient", "slide", "case", "original")) or image,
    )


def evaluate(
    name: str, truth: dict[str, Points], predicted: dict[str, Points], radius: float = RADIUS, positive: str = ""
) -> tuple[Table, list[Score]]:
    """F1 by label and rule, the difference of the rules, and, with `positive`, the agreement of that label's share of a picture.

    Pictures that the truth has and the prediction has not count with all their cells missed. Raises BadDataset without pictures.
    """
    if not truth:
        raise BadDataset("the table of the truth holds no pictures.")
    columns = ["cells", "rule", "pictures", "labelled", "predicted", "precision", "recall", "F1"]
    table = Table(id="points", title=f"Cells: {name}, within {radius:g} px", columns=columns, seed=0)
    labels = sorted({str(x) for p in truth.values() for x in p.labels if x})
    if positive and positive not in labels:
        raise BadDataset(f"no labelled cell is called {positive!r}; the labels are: {', '.join(labels) or 'none'}.")
    clusters = [p.cluster for p in truth.values()]
    data = key_of([[image, p.xy.tolist(), p.labels.tolist()] for image, p in sorted(truth.items())])[:16]
    scores: list[Score] = []
    for label in (ALL, *labels):
        counts = {rule: np.zeros((len(truth), 3)) for rule in ("optimal", "greedy")}
        for n, (image, real) in enumerate(truth.items()):
            cells, _ = real.of(label)
            points, score = predicted[image].of(label) if image in predicted else (np.zeros((0, 2)), np.zeros(0))
            for rule, pairs in match_both(points, score, cells, radius).items():
                counts[rule][n] = len(pairs), len(points) - len(pairs), len(cells) - len(pairs)
        for rule, rows in counts.items():
            hits, spare, missed = (int(v) for v in rows.sum(axis=0))
            precision, recall = (_share(rows, other, clusters) for other in (1, 2))
            f1 = f1_interval(rows, clusters)
            table.add(label, rule, len(truth), hits + missed, hits + spare, precision, recall, f1)
            scores.append(Score(task=label, protocol=f"{rule}, {radius:g} px", metric="F1", value=f1, n=hits + missed, data=data))
            table.items += [
                {"model": f"{name}, {rule}", "part": label, "id": image, "cluster": cluster, "score": _f1(row)}
                for image, cluster, row in zip(truth, clusters, rows, strict=True)
            ]
        more = _f1(counts["optimal"].sum(0)) - _f1(counts["greedy"].sum(0))
        table.notes.append(f"{label}: the optimal rule gives {more:+.4f} in F1 against the greedy one.")
    if missing := [image for image in truth if image not in predicted]:
        table.notes.append(
            f"{len(missing)} pictures have no prediction ({', '.join(missing[:3])} …): all their cells count as missed."
        )
    if positive:
        scores += _index(table, truth, predicted, positive, data)
    table.notes.append("95 % intervals, bootstrap by patient where the table names one, else by picture.")
    return table, scores


def _share(rows: np.ndarray, other: int, clusters: Sequence[str]) -> Interval:
    return sums_interval(lambda s: s[:, 0] / np.maximum(s[:, 0] + s[:, other], 1), rows, clusters)


def _f1(row: np.ndarray) -> float:
    total = 2 * row[0] + row[1] + row[2]
    return float(2 * row[0] / total) if total else 1.0


def _index(table: Table, truth: dict[str, Points], predicted: dict[str, Points], positive: str, data: str) -> list[Score]:
    """The share of positive cells of each picture, by the labels and by the tool."""
    pairs = [
        (image, _percent(p, positive), _percent(predicted[image], positive)) for image, p in truth.items() if image in predicted
    ]
    usable = [(image, a, b) for image, a, b in pairs if a is not None and b is not None]
    first_, second = [a for _, a, _ in usable], [b for _, _, b in usable]
    result = agreement(first_, second, [truth[image].cluster for image, _, _ in usable])
    title = f"index of {positive}, % of a picture"
    values = {"ICC(2,1)": result.icc, "ICC(3,1)": result.icc_consistency, "bias": result.bias, "mean error": result.mean_error}
    values |= {"lower limit": result.lower, "upper limit": result.upper}
    table.notes.append(f"{title}, n = {result.n}: " + "; ".join(f"{k} {v}" for k, v in values.items()) + ".")
    if left := len(pairs) - len(usable):
        table.notes.append(f"{title}: {left} pictures without any cell on one side are left out.")
    table.pictures[f"Bland–Altman, {positive}"] = draw_bland_altman(first_, second, result)
    return [Score(task=title, metric=m, value=v, n=result.n, data=data) for m, v in values.items()]


def _percent(points: Points, positive: str) -> float | None:
    return 100 * float((points.labels == positive).mean()) if len(points.labels) else None
