"""Panels, letters and alignment on real figures.

    PATHASST_DATA=… python benchmarks/curate_panels.py

Boxes are the PDF's image objects. mAP@0.5: average precision, detections ranked by score, the smaller panel last among equals.
Exact: as many panels as there are, each with IoU ≥ 0.5. Letters: share of the printed ones that were read. Alignment: share of
matched panels whose sub-caption is the one of the panel's printed letter, with the letters read and without any (order alone).
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from pathasst.curate.align import align
from pathasst.curate.captions.split import split
from pathasst.curate.letters import LetterReader
from pathasst.curate.metrics import interval, iou
from pathasst.curate.panels import CutDetector
from pathasst.curate.pictures import decode


def average_precision(ranked: list[tuple[float, float, bool]], positives: int) -> float:
    """Area under the precision–recall curve (all-point), from (score, area, hit)."""
    ranked = sorted(ranked, key=lambda r: (-r[0], -r[1]))
    hits = np.cumsum([r[2] for r in ranked])
    precision = hits / np.arange(1, len(ranked) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    recall = np.concatenate([[0], hits / positives])
    return float((np.diff(recall) * precision).sum())


def score_cut(data: Path, figures: list[dict]) -> dict[str, object]:
    """mAP@0.5, exact figures with interval by article, milliseconds a figure."""
    detector, ranked, exact, positives, spent = CutDetector(), [], [], 0, 0.0
    for figure in figures:
        picture = decode((data / "articles" / "figures" / figure["image"]).read_bytes())
        started = time.process_time()
        panels = detector(picture)
        spent += time.process_time() - started
        gold, used = figure["panel_boxes"], set()
        positives += len(gold)
        for p in panels:
            area = (p.box[2] - p.box[0]) * (p.box[3] - p.box[1])
            best = max(range(len(gold)), key=lambda i: iou(p.box, gold[i]) if i not in used else -1)
            hit = best not in used and iou(p.box, gold[best]) >= 0.5
            used |= {best} if hit else set()
            ranked.append((p.score, area, hit))
        exact.append(len(panels) == len(gold) == len(used))
    right = np.array(exact)
    return {
        "map50": average_precision(ranked, positives),
        "exact": float(right.mean()),
        "exact_interval": interval(lambda i: float(right[i].mean()), [f["pmcid"] for f in figures]),
        "ms": 1000 * spent / len(figures),
        "n": len(figures),
        "boxes": positives,
    }


def score_letters(data: Path, figures: list[dict]) -> dict[str, object]:
    """Letters read, letters that are not there, and alignment with and without them."""
    detector, reader = CutDetector(), LetterReader()
    read = printed = extra = 0
    right = {"letters": [0, 0, 0], "order": [0, 0, 0]}
    for figure in (f for f in figures if f["labels"]):
        picture = decode((data / "articles" / "figures" / figure["image"]).read_bytes())
        panels, small = detector.cut(picture)
        letters = reader(picture, panels, small)
        gold = {x.upper() for x in figure["labels"]}
        read, printed, extra = read + len(gold & set(letters)), printed + len(gold), extra + len(set(letters) - gold - {""})
        parts = [s for s in split(figure["caption_jats"]) if s.letter]
        truth = {n: _owner(p.box, figure) for n, p in enumerate(panels)}
        if len(panels) < 2 or len(parts) < 2:
            continue
        known = sum(any(s.letter == x for s in parts) for x in truth.values() if x)
        for name, seen in (("letters", letters), ("order", [""] * len(panels))):
            right[name][2] += known
            for m in align([replace(p, letter=x) for p, x in zip(panels, seen, strict=True)], parts):
                if truth[m.panel]:
                    right[name][0] += parts[m.caption].letter == truth[m.panel]
                    right[name][1] += 1
    return {"read": read, "printed": printed, "extra": extra, "align (right, matched, of)": right}


def _owner(box: tuple[float, ...], figure: dict) -> str:
    """The letter printed nearest below the middle of a panel, as the PDF's text places it; "" when none is near."""
    best, name = 0.35 * max(box[2] - box[0], box[3] - box[1]), ""
    for label in figure["label_boxes"]:
        x, y = (label["box"][0] + label["box"][2]) / 2, (label["box"][1] + label["box"][3]) / 2
        away = abs(x - (box[0] + box[2]) / 2) + abs(y - box[3])
        if away < best:
            best, name = away, label["text"].strip("() ").upper()
    return name


def main() -> None:
    """Print both tables."""
    data = Path(os.environ["PATHASST_DATA"])
    figures = json.loads((data / "articles" / "figures.json").read_text())
    print(json.dumps(score_cut(data, figures), indent=1))
    print(json.dumps(score_letters(data, figures), indent=1))


if __name__ == "__main__":
    main()
