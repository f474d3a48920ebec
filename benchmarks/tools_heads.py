"""Heads on EfficientNet-Lite0 by their recipes: white-cell types, cervical fields, grades of cervical cells; measured.

    PATHASST_DATA=… python benchmarks/tools_heads.py wbc|lbc_fields|lbc_cells [--cache FOLDER] [--out FOLDER] [--set name=value]

Grouped five-fold cross-validation (no smear, field or original on both sides) gives the scores and all that is chosen; then each
laboratory is left out in turn, and judged by what the other one chose. Intervals: 95 %, by bootstrap over groups. `--out` keeps
the head, as `pathasst train head` does.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tools_wbc_boxes
from measured import command_line, save

from pathasst.core.recipes import recipe_path
from pathasst.nn import head_training
from pathasst.nn.head_training import HeadPictures, HeadTraining, cross_validate, fitted, read_pictures, scores_of
from pathasst.nn.heads import Head


def pictures_of(settings: HeadTraining, task: str, cache: Path | None) -> HeadPictures:
    """The features of a recipe's pictures, from the cache where they are there."""
    file = cache / f"{task}.npz" if cache else None
    if file and file.is_file():
        return HeadPictures(*(np.load(file)[name] for name in ("views", "labels", "groups", "sources")))
    data = Path(os.environ["PATHASST_DATA"])
    with tempfile.TemporaryDirectory() as boxes:
        if task == "wbc":
            tools_wbc_boxes.write(data, Path(boxes))
        pictures = read_pictures(settings.rooted(Path(boxes) if task == "wbc" else data), print)
    if file:
        np.savez(file, views=pictures.views, labels=pictures.labels, groups=pictures.groups, sources=pictures.sources)
    return pictures


def price(probabilities: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], target: float = 0.95) -> dict[str, float]:
    """What it costs to find `target` of the cells of high grade: the specificity at that probability, and by the likeliest."""
    odds, high, normal = probabilities[:, classes.index("high grade")], labels == "high grade", labels == "normal"
    likeliest = probabilities.argmax(1) == classes.index("high grade")
    edge = float(np.quantile(odds[high], 1 - target))
    return {
        "sensitivity, likeliest class": float(likeliest[high].mean()),
        "specificity, likeliest class": float((~likeliest)[~high].mean()),
        "probability at the target": edge,
        "specificity at the target": float((odds < edge)[~high].mean()),
        "specificity at the target, normal cells": float((odds < edge)[normal].mean()),
    }


def left_out(settings: HeadTraining, pictures: HeadPictures, source: str) -> dict[str, Any]:
    """A laboratory judged by a head of the others: fitted, calibrated and limited without it."""
    rest, own = pictures.part(pictures.sources != source), pictures.part(pictures.sources == source)
    chosen = cross_validate(settings, rest).head
    head = fitted(settings, rest)
    head = Head(head.classes, head.tensors, chosen.temperature, chosen.limit, chosen.least)
    return scores_of(head, head.judge(own.views[0]), own)


def show(name: str, scores: dict[str, Any]) -> None:
    """A few lines."""
    print(
        f"{name}: n {scores['n']} groups {scores['groups']} macro F1 {scores['macro F1']} accuracy {scores['accuracy']} "
        f"F1 { ({k: round(v, 2) for k, v in scores['F1'].items()}) } unlike {scores['unlike']:.3f} stated {scores['stated']:.3f} "
        f"right of these {scores['right of stated'] or 0:.3f}"
    )
    for label, counts in scores["stated as"].items():
        print(f"    {label}: {counts}")


def main() -> None:
    """Fit, measure, print."""
    parser = command_line(__doc__)
    parser.add_argument("task", choices=["wbc", "lbc_fields", "lbc_cells"])
    parser.add_argument("--cache", type=Path, help="folder for the features")
    parser.add_argument("--out", type=Path, help="folder for the head")
    parser.add_argument("--set", action="append", default=[], help="name=value, another setting than the recipe's")
    options = parser.parse_args()
    settings = HeadTraining.load(recipe_path(options.task, "embedded"), options.set)
    pictures = pictures_of(settings, options.task, options.cache)
    checked = cross_validate(settings, pictures)
    chosen = checked.head
    print(f"temperature {chosen.temperature}, limit {chosen.limit}, least {chosen.least}", flush=True)
    values: dict[str, Any] = checked.scores()
    if "high grade" in settings.classes:
        for name in values:
            of = pictures.sources == name if name != "all" else np.ones(len(pictures.labels), bool)
            values[name]["high grade"] = price(checked.output.probabilities[of], pictures.labels[of], settings.classes)
            print(name, values[name]["high grade"])
    sources = sorted(set(pictures.sources.tolist()))
    if len(sources) > 1:
        values |= {f"left out {source}": left_out(settings, pictures, source) for source in sources}
    for name, scores in values.items():
        show(name, scores)
    save(options.json, values)
    if options.out:
        head_training.save(settings, pictures, checked, options.out)


if __name__ == "__main__":
    main()
