"""The embedded select model: F1 on its test split, and recall on sources it never saw (research-only sets).

PATHASST_DATA=… python benchmarks/curate_select_data.py OUT
PATHASST_DATA=… python benchmarks/curate_select.py OUT/labels.csv [MODEL]
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
from measured import command_line, save

from pathasst.core.statistics import Interval
from pathasst.curate.select import EMBEDDED, Selector
from pathasst.curate.select_train import evaluate, read_samples
from pathasst.imaging.pictures import load

UNSEEN = ("wsss4luad", "pannuke", "bcdata_ki67", "shidc_ki67", "nuclick_lyon19_ihc", "pdl1_tma")


def main(labels: Path, model: str, keep: Path | None) -> None:
    """Print the scores as JSON, and keep them."""
    selector = Selector.load(model)
    test = [s for s in read_samples(labels) if s.split == "test"]
    scores = {"model": selector.version, "test": evaluate(selector, test)}
    drawn = ("chart", "gel", "diagram", "scan", "fluorescence", "photograph", "text", "mri", "electron")
    scores["test without drawn negatives"] = evaluate(selector, [s for s in test if s.source not in drawn])
    figures = [s for s in test if s.source in ("articles", "article-panels", "jats_packages")]
    scores["figures and panels of articles"] = evaluate(selector, figures)
    data = Path(os.environ["PATHASST_DATA"])
    for name in UNSEEN:
        files = [p for p in sorted((data / name).rglob("*")) if p.suffix.lower() in (".jpg", ".jpeg", ".png", ".tif", ".tiff")]
        files = [p for p in files if "mask" not in str(p.relative_to(data)).lower() and "label" not in p.parent.name.lower()]
        pictures = [load(p.read_bytes()) for p in files]
        coloured = [p for p in pictures if np.ptp(p.astype(int), axis=2).mean() > 3]  # masks stored as pictures are grey
        if coloured:
            kept = int((selector.score(coloured) >= selector.threshold).sum())
            scores[f"unseen: {name}"] = f"{kept}/{len(coloured)} kept"
    print(json.dumps(scores, indent=1))
    kept = {k: v | {"f1": Interval(v["f1"], *v["f1_interval"])} if isinstance(v, dict) else v for k, v in scores.items()}
    save(keep, kept)


if __name__ == "__main__":
    parser = command_line(__doc__)
    parser.add_argument("labels", type=Path)
    parser.add_argument("model", nargs="?", default=EMBEDDED)
    given = parser.parse_args()
    main(given.labels, given.model, given.json)
