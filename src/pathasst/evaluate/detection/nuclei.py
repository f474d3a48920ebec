"""Label masks of two folders, a tool's and the true ones: PQ, AJI, Dice, F1 at an IoU, pooled and as the mean over pictures."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np

from pathasst.core.errors import BadDataset, BadInput
from pathasst.core.files import sha256_of
from pathasst.core.statistics import Interval, mean_interval
from pathasst.core.tables import first, read_table
from pathasst.evaluate.asking import bar
from pathasst.evaluate.leaderboard import Score
from pathasst.evaluate.predictions import key_of
from pathasst.evaluate.table import Table
from pathasst.imaging.instances import THRESHOLDS, instance_intervals, score_instances
from pathasst.imaging.pictures import read_labels

SUFFIXES = (".png", ".tif", ".tiff", ".npy")


def read_mask(path: Path) -> np.ndarray:
    """A label mask H×W of whole numbers: PNG or TIFF of one channel, or .npy. Raises BadInput."""
    if path.suffix != ".npy":
        return read_labels(path)
    try:
        mask = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path.name} is no array: {error}") from error
    if mask.ndim != 2 or mask.dtype.kind not in "iub":
        raise BadInput(f"{path.name}: expected H×W whole numbers, got {mask.shape} of {mask.dtype}.")
    return mask.astype(np.int64)  # type: ignore[no-any-return]


def evaluate(name: str, truth: Path, predicted: Path, clusters: Path | None = None) -> tuple[Table, list[Score]]:
    """Masks that have the same name in both folders, suffixes aside. `clusters`: a CSV with image and patient (or slide,
    original).

    A picture without a prediction counts as one without objects; one that cannot be read is left out and counted.
    Raises BadDataset when there is nothing to compare.
    """
    names = _masks(truth)
    others = _masks(predicted)
    if not names or not set(names) & set(others):
        raise BadDataset(
            f"no mask of {truth} has its name in {predicted} ({', '.join(list(names)[:3]) or 'no masks'} …; "
            f"{', '.join(list(others)[:3]) or 'no masks'} …). Expected: one .png, .tif or .npy a picture, 0 where nothing is."
        )
    table = Table(id="nuclei", title=f"Objects: {name}", columns=["how", "pictures", "objects", "predicted"], seed=0)
    group_of = _clusters(clusters) if clusters else {}
    masks, predictions, keys, unreadable = [], [], [], 0
    with bar("masks", len(names)) as progress:
        for key, path in names.items():
            try:
                mask = read_mask(path)
                other = read_mask(others[key]) if key in others else np.zeros_like(mask)
                if mask.shape != other.shape:
                    raise BadInput(f"{key}: {mask.shape} and {other.shape}")
            except BadInput as error:
                unreadable += 1
                table.notes.append(f"left out: {error}")
                continue
            finally:
                progress(1)
            masks.append(mask)
            predictions.append(other)
            keys.append(key)
    if not keys:
        raise BadDataset(f"none of the {len(names)} masks of {truth} could be compared.\n" + "\n".join(table.notes))
    groups = [group_of.get(key, key) for key in keys]
    each = [score_instances(m, f) for m, f in zip(masks, predictions, strict=True)]
    pooled = instance_intervals(masks, predictions, groups)
    table.columns += list(pooled)
    counts = [len(keys), sum(s.truths for s in each), sum(s.predictions for s in each)]
    table.add("pooled", *counts, *pooled.values())
    means = {metric: _mean([_value(s, metric) for s in each], groups) for metric in pooled}
    table.add("mean of pictures", *counts, *means.values())
    table.items = [
        {"model": name, "part": "PQ", "id": key, "cluster": group, "score": 0.0 if math.isnan(s.pq) else s.pq}
        for key, group, s in zip(keys, groups, each, strict=True)
    ]
    data = key_of([[key, sha256_of(names[key])] for key in sorted(keys)])[:16]
    scores = [
        Score(task=truth.name, protocol=how, metric=m, value=v, n=len(keys), clusters=len(set(groups)), data=data)
        for how, values in (("pooled", pooled), ("mean of pictures", means))
        for m, v in values.items()
        if v is not None
    ]
    if absent := [key for key in names if key not in others]:
        table.notes.append(f"{len(absent)} pictures have no predicted mask; they count as empty.")
    if unreadable:
        table.notes.append(f"{unreadable} pictures left out.")
    table.notes.append("95 % intervals, bootstrap by patient where --clusters names one, else by picture.")
    return table, scores


def _value(score: object, metric: str) -> float:
    if metric.startswith("F1@"):
        return dict(zip((f"F1@{t:g}" for t in THRESHOLDS), score.f1.values(), strict=True))[metric]  # type: ignore[attr-defined]
    return float(getattr(score, {"AJI+": "aji_plus"}.get(metric, metric.lower())))


def _mean(values: list[float], groups: list[str]) -> Interval | None:
    """The mean of the pictures that have an object on either side."""
    rows = [n for n, v in enumerate(values) if not math.isnan(v)]
    return mean_interval([values[n] for n in rows], [groups[n] for n in rows]) if rows else None


def _masks(folder: Path) -> dict[str, Path]:
    return {p.stem: p for p in sorted(folder.iterdir()) if p.suffix.lower() in SUFFIXES} if folder.is_dir() else {}


def _clusters(path: Path) -> dict[str, str]:
    try:
        _, rows = read_table(path)
        return {
            Path(first(row, ("image", "file", "mask"))).stem: first(row, ("patient", "slide", "case", "original", "cluster"))
            for _, row in rows
        }
    except (OSError, csv.Error) as error:
        raise BadDataset(f"{path} cannot be read: {error}") from error
