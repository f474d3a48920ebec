"""Ki67 cells on the recipe's test split: F1 at 12 px and labelling index of the shipped weights, beside a classical peer.

    PATHASST_DATA=… python benchmarks/tools_ki67.py [--model FOLDER]

Three ways of choosing the scale: as trained (the recipe's factor), as given (1), and as the tool does it for a picture of unknown
scale. The peer is colour deconvolution with a Laplacian-of-Gaussian blob detector (scikit-image), its thresholds chosen on the
validation split like ours. The radius is 12 px of the picture as the recipe scales it.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from measured import command_line, save

from pathasst.core import weights
from pathasst.core.recipes import recipes_dir
from pathasst.core.statistics import Interval
from pathasst.imaging.stains import DAB, HAEMATOXYLIN, unmix
from pathasst.nn.p2pnet.data import LabelledField, read_fields, split_fields
from pathasst.nn.p2pnet.infer import CellDetector, Cells, suppress
from pathasst.nn.p2pnet.settings import PointTraining
from pathasst.nn.p2pnet.train import best_thresholds, score_fields
from pathasst.tools.cells.size import estimate_scale


class Blobs:
    """The peer: blobs of haematoxylin + DAB; positive where DAB outweighs. Same call as a CellDetector."""

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    def __call__(self, image: np.ndarray, scale: float = 1.0, min_score: float | None = None) -> Cells:
        from skimage.feature import blob_log

        stains = unmix(image)
        dark = np.clip(stains[..., HAEMATOXYLIN] + stains[..., DAB], 0, 1)
        floors = np.broadcast_to(self.settings.min_score if min_score is None else min_score, len(self.settings.classes))
        found = blob_log(dark, min_sigma=5, max_sigma=12, num_sigma=4, threshold=min(floors) / 4, overlap=0.5)
        points = found[:, 1::-1].astype(np.float32) + 0.5
        at = points.astype(int)
        classes = np.where(stains[at[:, 1], at[:, 0], DAB] > 0.3, 0, 1)
        cells = Cells(points, classes, dark[at[:, 1], at[:, 0]].astype(np.float32))
        cells = cells.take(cells.scores >= floors[classes])
        return cells.take(suppress(cells.points, cells.scores))


def scaled(detector: CellDetector, how: str) -> Any:
    """A detector that resizes each picture by our estimate before it looks."""

    def call(image: np.ndarray, **options: Any) -> Cells:
        return detector(image, estimate_scale(image) if how == "estimated" else 1.0, **options)

    # the scorer's own factor is not used: the estimate takes its place
    methods = {"settings": detector.settings, "__call__": lambda self, image, factor=1.0, **o: call(image, **o)}
    return type("Scaled", (), methods)()


KEPT: dict[str, Any] = {}


def show(name: str, scores: dict[str, Any]) -> None:
    """One line of the table, and of the result."""
    kept = {key: Interval(scores[key]["f1"], *scores[key]["interval"]) for key in ("detection", "positive", "negative")}
    KEPT[name] = kept | {"fields": scores["fields"], "cells": scores["cells"], "index error": scores["index_error"]}
    parts = [f"{name:46s} {scores['fields']:3d} {scores['cells']:5d}"]
    for key in ("detection", "positive", "negative"):
        low, high = scores[key]["interval"]
        parts.append(f"{scores[key]['f1']:.3f} ({low:.3f}–{high:.3f})")
    print("  ".join(parts), f" {' / '.join(map(str, scores['index_error'].values()))}", flush=True)


def main() -> None:
    """Read the recipe's splits, measure, print."""
    parser = command_line(__doc__)
    parser.add_argument("--model", default="", help="folder of other weights than the shipped ones")
    given = parser.parse_args()
    root = Path(os.environ["PATHASST_DATA"])
    settings = PointTraining.load(recipes_dir() / "embedded" / "ki67.yaml").rooted(root)
    detector = CellDetector.load(Path(given.model) if given.model else weights.path("ki67-embedded"))
    peer = Blobs(SimpleNamespace(classes=detector.settings.classes, ignored=detector.settings.ignored, min_score=0.5))
    everything: list[LabelledField] = []
    val: list[LabelledField] = []
    print(f"{'':46s} {'n':>3s} {'cells':>5s}  F1 detection, positive, negative (95 %)   index error: mean / max / of all cells")
    sources = []
    for data in settings.data:
        splits = split_fields(read_fields(data, settings.model.classes), data)
        sources.append((Path(data.points).parent.name, data, splits))
        everything += splits["test"]
        val += splits["val"]
    peer.settings.min_score = best_thresholds(peer, val)[0]  # type: ignore[arg-type]
    for name, data, splits in sources:
        show(f"{name}, scaled as trained (×{data.scale})", score_fields(detector, splits["test"]))
        if data.scale != 1:
            whole = split_fields(read_fields(data.replace(scale=1.0), settings.model.classes), data)["test"]
            show(f"{name}, as given", score_fields(detector, whole))
            show(f"{name}, as given, scale estimated", score_fields(scaled(detector, "estimated"), whole))
        else:
            show(f"{name}, scale estimated", score_fields(scaled(detector, "estimated"), splits["test"]))
        show(f"{name}, peer: stains and blobs", score_fields(peer, splits["test"]))  # type: ignore[arg-type]
    show("all, scaled as trained", score_fields(detector, everything))
    show("all, peer: stains and blobs", score_fields(peer, everything))  # type: ignore[arg-type]
    save(given.json, KEPT)


if __name__ == "__main__":
    main()
