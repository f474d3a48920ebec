"""Heads on EfficientNet-Lite0: white-cell types, cervical fields, grades of cervical cells; fitted and measured.

    PATHASST_DATA=… python benchmarks/tools_heads.py wbc|fields|grades [--cache FOLDER] [--out FOLDER]

Grouped five-fold cross-validation (seed 0; no smear, field or original on both sides) gives the scores, the temperature, the
limit of the distance and the least probability of a statement; then each laboratory is left out in turn. `--out` keeps the head
that is fitted on everything. Intervals: bootstrap over groups, 1000 draws, seed 0.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from measured import save
from scipy.special import softmax
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedGroupKFold
from tools_wbc_boxes import cell_box

from pathasst.core.statistics import Interval
from pathasst.imaging.pictures import load
from pathasst.nn import heads
from pathasst.nn.classifier.augment import vary
from pathasst.nn.classifier.items import cut, widen
from pathasst.nn.classifier.settings import ClassifierTraining
from pathasst.nn.heads import Head
from pathasst.tools.blood_cells import crop

RIGHT = 0.9  # share of statements of each source that must be right


@dataclass(frozen=True)
class Cells:
    """Pictures with class, group and source."""

    pictures: list[np.ndarray]
    labels: list[str]
    groups: list[str]
    sources: list[str]


def rows(table: Path) -> list[dict[str, str]]:
    """A table's rows."""
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def white_cells(data: Path) -> Cells:
    """PBC and Tecom, as `blood_cells` crops a white cell."""
    cells = Cells([], [], [], [])
    for row in rows(data / "pbc_blood/labels.csv"):
        picture = load(data / "pbc_blood" / row["image"])
        add(cells, cut(picture, cell_box(picture)), row["label"], row["image"], "pbc")
    for row in rows(data / "wbc_tecom/labels.csv"):
        y, x = np.nonzero(cv2.imread(str(data / "wbc_tecom" / row["mask"]), cv2.IMREAD_UNCHANGED))
        box = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1], float)
        add(cells, crop(load(data / "wbc_tecom" / row["file"]), box), row["label"], row["file"], "tecom")
    return cells


def fields(data: Path) -> Cells:
    """Mendeley LBC."""
    cells = Cells([], [], [], [])
    for row in rows(data / "mendeley_lbc/labels.csv"):
        add(cells, load(data / "mendeley_lbc" / row["image"]), row["label"], row["original"], "lbc")
    return cells


def cervical_cells(data: Path) -> Cells:
    """Herlev and CRIC."""
    cells = Cells([], [], [], [])
    for row in rows(data / "herlev/labels.csv"):
        add(cells, load(data / "herlev" / row["file"]), row["label"], row["smear"], "herlev")
    name, picture = "", np.zeros((1, 1, 3), np.uint8)
    for row in rows(data / "cric/labels.csv"):
        if row["image"] != name:
            name, picture = row["image"], load(data / "cric" / row["image"])
        x1, y1, x2, y2 = (float(row[k]) for k in ("xmin", "ymin", "xmax", "ymax"))
        add(cells, cut(picture, widen((x1, y1, x2, y2), 0.15)).copy(), row["label"], name, "cric")
    return cells


def add(cells: Cells, picture: np.ndarray, label: str, group: str, source: str) -> None:
    """One more picture."""
    for values, value in (
        (cells.pictures, picture),
        (cells.labels, label),
        (cells.groups, f"{source}:{group}"),
        (cells.sources, source),
    ):
        values.append(value)  # type: ignore[attr-defined]


FIVE = {name: name for name in ("neutrophil", "lymphocyte", "monocyte", "eosinophil", "basophil")}
HERLEV = {
    "mild dysplasia": "low grade",
    **dict.fromkeys(("moderate dysplasia", "severe dysplasia", "carcinoma in situ"), "high grade"),
}
NORMAL = dict.fromkeys(("normal columnar", "normal squamous superficial", "normal squamous intermediate", "NILM"), "normal")
CRIC = {**dict.fromkeys(("ASC-US", "LSIL"), "low grade"), **dict.fromkeys(("ASC-H", "HSIL", "SCC"), "high grade")}
TASKS: dict[str, tuple[Callable[[Path], Cells], dict[str, str], int, float, float]] = {
    "wbc": (white_cells, FIVE, 8, 0.3, 10.0),
    "fields": (fields, {name: name for name in ("NILM", "LSIL", "HSIL", "SCC")}, 2, 0.15, 30.0),
    "grades": (cervical_cells, {**NORMAL, **HERLEV, **CRIC}, 2, 0.2, 10.0),
}
"""Pictures, label → class (others are left out), views of each picture, strength of the colour changes, C of the regression."""


def views_of(cells: Cells, count: int, colour: float) -> np.ndarray:
    """Features float16 [views, n, 6192], the plain pictures first."""
    settings = ClassifierTraining(size=224, colour=colour, zoom=0.2)
    parts = [heads.features_of(cells.pictures).astype(np.float16)]
    for view in range(1, count):
        varied = [vary(p, settings, np.random.default_rng((7, view, n))) for n, p in enumerate(cells.pictures)]
        parts.append(heads.features_of(varied).astype(np.float16))
    return np.stack(parts)


def interval(truth: np.ndarray, predicted: np.ndarray, groups: np.ndarray) -> Interval:
    """Macro F1 with its 95 % interval over groups."""
    places = [np.flatnonzero(groups == g) for g in sorted(set(groups))]
    rng, names = np.random.default_rng(0), sorted(set(truth))
    # True positives, predictions and truths of each class by group: a draw of groups is then a sum.
    counts = np.array(
        [
            [[(truth[p] == c)[predicted[p] == c].sum(), (predicted[p] == c).sum() + (truth[p] == c).sum()] for c in names]
            for p in places
        ]
    )
    draws = counts[rng.integers(0, len(places), (1000, len(places)))].sum(1)
    low, high = np.quantile((2 * draws[..., 0] / np.maximum(draws[..., 1], 1)).mean(1), (0.025, 0.975))
    value = (2 * counts.sum(0)[:, 0] / np.maximum(counts.sum(0)[:, 1], 1)).mean()
    return Interval(float(value), float(low), float(high))


@dataclass(frozen=True)
class Folds:
    """What cross-validation gave: probabilities [n, classes], true classes, groups, sources, distances in limits, the least."""

    classes: list[str]
    odds: np.ndarray
    truth: np.ndarray
    groups: np.ndarray
    sources: np.ndarray
    distances: np.ndarray
    least: float

    def show(self) -> dict[str, Any]:
        """A line for all and for each source; the same values."""
        values: dict[str, Any] = {}
        predicted, best = self.odds.argmax(1), self.odds.max(1)
        right = predicted == self.truth
        for source in dict.fromkeys(["all", *sorted(set(self.sources))]):
            of = np.ones(len(right), bool) if source == "all" else self.sources == source
            stated = of & (best >= self.least) & (self.distances <= 1)
            macro = interval(self.truth[of], predicted[of], self.groups[of])
            values[source] = {
                "n": int(of.sum()),
                "groups": len(set(self.groups[of])),
                "macro F1": macro,
                "stated": float(stated.sum() / of.sum()),
                "right of stated": float(right[stated].mean()),
            }
            by_class = f1_score(self.truth[of], predicted[of], average=None, labels=range(len(self.classes)), zero_division=0)
            print(
                f"{source}: n {of.sum()} groups {len(set(self.groups[of]))} macro F1 "
                f"{macro.value:.3f} [{macro.low:.3f}, {macro.high:.3f}] accuracy {right[of].mean():.3f} "
                f"F1 {dict(zip(self.classes, by_class.round(2).tolist(), strict=True))} stated {stated.sum() / of.sum():.3f} "
                f"right of stated {right[stated].mean():.3f} unlike {(self.distances[of] > 1).mean():.3f}"
            )
            if "high grade" in self.classes:
                self._price(source, of, predicted, stated)
        return values

    def _price(self, source: str, of: np.ndarray, predicted: np.ndarray, stated: np.ndarray) -> None:
        place, normal = self.classes.index("high grade"), self.truth == self.classes.index("normal")
        high, as_normal = self.truth == place, predicted == self.classes.index("normal")
        edge = float(np.quantile(self.odds[of & high, place], 0.05))
        below = self.odds[:, place] < edge
        print(
            f"{source}: high grade by the likeliest class: sensitivity {(predicted == place)[of & high].mean():.3f}, specificity "
            f"{(predicted != place)[of & ~high].mean():.3f}; called normal {as_normal[of & high].mean():.3f}; "
            f"stated as normal {(stated & as_normal)[of & high].mean():.3f}; at sensitivity 0.95 (probability {edge:.3f}) "
            f"specificity {below[of & ~high].mean():.3f}, of normal cells {below[of & normal].mean():.3f}"
        )


def cross_validate(
    views: np.ndarray, labels: np.ndarray, groups: np.ndarray, sources: np.ndarray, classes: list[str], strength: float
) -> tuple[Folds, float, float]:
    """What five folds gave, the temperature, and the limit of the distance."""
    logits, distances = np.zeros((len(labels), len(classes))), np.zeros(len(labels))
    for train, test in StratifiedGroupKFold(5, shuffle=True, random_state=0).split(labels, labels, groups):
        head = heads.fit(views[:, train], labels[train], sources[train], classes, strength)
        logits[test], distances[test] = head.logits(views[0, test]), heads.distance(views[0, test], head.tensors)
    truth = np.array([classes.index(v) for v in labels])
    limit = float(np.quantile(distances, 1 - heads.REFUSED))
    grid = np.geomspace(0.1, 10, 100)
    losses = [-np.log(softmax(logits / t, axis=1)[np.arange(len(truth)), truth] + 1e-9).mean() for t in grid]
    temperature = float(grid[int(np.argmin(losses))])
    odds = softmax(logits / temperature, axis=1)
    right, best = odds.argmax(1) == truth, odds.max(1)
    least = next(
        (
            float(level)
            for level in np.linspace(0.3, 0.99, 70)
            if all(
                ((best >= level) & (sources == s)).sum() >= 20 and right[(best >= level) & (sources == s)].mean() >= RIGHT
                for s in set(sources)
            )
        ),
        1.01,
    )
    return Folds(classes, odds, truth, groups, sources, distances / limit, least), temperature, limit


def main() -> None:
    """Fit, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=list(TASKS))
    parser.add_argument("--cache", type=Path, help="folder for the features")
    parser.add_argument("--out", type=Path, help="folder for the head")
    parser.add_argument("--json", type=Path, help="file for the scores of the cross-validation")
    options = parser.parse_args()
    reader, names, count, colour, strength = TASKS[options.task]
    cache = options.cache / f"{options.task}.npz" if options.cache else None
    if cache and cache.is_file():
        stored = np.load(cache)
        views, labels, groups = stored["f"], stored["y"], stored["g"]
    else:
        cells = reader(Path(os.environ["PATHASST_DATA"]))
        views, labels, groups = views_of(cells, count, colour), np.array(cells.labels), np.array(cells.groups)
        if cache:
            np.savez(cache, f=views, y=labels, g=groups)
    kept = np.isin(labels, list(names))
    views, groups = views[:, kept].astype(np.float32), groups[kept]
    labels, classes = np.array([names[v] for v in labels[kept]]), list(dict.fromkeys(names.values()))
    sources = np.array([g.split(":")[0] for g in groups])
    folds, temperature, limit = cross_validate(views, labels, groups, sources, classes, strength)
    print(f"temperature {temperature:.2f}, limit {limit:.2f}, least {folds.least:.2f}", flush=True)
    values = folds.show()
    for source in sorted(set(sources)) if len(set(sources)) > 1 else []:
        train, test = sources != source, sources == source
        head = heads.fit(views[:, train], labels[train], sources[train], classes, strength)
        own = float(np.quantile(heads.distance(views[0, train], head.tensors), 1 - heads.REFUSED))
        judged = Head(head.classes, head.tensors, temperature, max(own, limit), folds.least).judge(views[0, test])
        print(f"left out {source}, its distance beside a limit from the other or all sources, the larger:")
        Folds(classes, judged.probabilities, folds.truth[test], groups[test], sources[test], judged.distances, folds.least).show()
    save(options.json, values)
    if options.out:
        head = heads.fit(views, labels, sources, classes, strength)
        Head(head.classes, head.tensors, round(temperature, 3), round(limit, 3), round(folds.least, 3)).save(options.out)


if __name__ == "__main__":
    main()
