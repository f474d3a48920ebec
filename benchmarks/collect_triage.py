"""Triage measured on captions read by hand: recall on wanted figures, share of figures dropped, bytes saved.

    PATHASST_DATA=<samples> python benchmarks/collect_triage.py [--show]

`data/triage_labels.csv` holds ids and labels (y: the picture holds stained tissue or cells, a gross specimen or a smear; m: the
caption leaves it open; n: none). The sample is stratified by a broad word net (A strong words, B weak, C none), so every number
is weighted back to the 8,791 captions. Interval: bootstrap over captions within strata, 2000 draws, seed 0; where nothing is
missed it is empty, so Wilson's on the plain count stands beside it. All strata helped to choose the threshold. After that, fresh
captions that the rules drop were read: "borderline" scores (0.5 to 1.5) and "far" ones.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import random
from collections import defaultdict
from pathlib import Path
from typing import Any

from measured import command_line, save

from pathasst.collect.triage import THRESHOLD, score_text
from pathasst.core.statistics import wilson

POPULATION = {"A": 536, "B": 841, "C": 7414}  # captions in each stratum of the whole file
Row = tuple[str, str, bool]  # stratum, label, kept


def _recall(rows: list[Row], wanted: str) -> float:
    sizes: dict[str, int] = defaultdict(int)
    for stratum, _, _ in rows:
        sizes[stratum] += 1
    found = [(POPULATION[s] / sizes[s], kept) for s, label, kept in rows if label in wanted]
    total = sum(w for w, _ in found)
    return sum(w for w, kept in found if kept) / total if total else float("nan")


def _interval(rows: list[Row], wanted: str) -> tuple[float, float]:
    dice = random.Random(0)
    strata: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        strata[row[0]].append(row)
    values = sorted(_recall([r for s in strata.values() for r in dice.choices(s, k=len(s))], wanted) for _ in range(2000))
    return values[50], values[1949]


def _captions(data: Path) -> dict[str, dict[str, Any]]:
    with gzip.open(data / "captions/figure_captions.jsonl.gz", "rt", encoding="utf-8") as file:
        return {f"{row['src']}/{row['file']}#{row['fig_id']}": row for row in map(json.loads, file)}


def _main() -> None:
    options = command_line(__doc__)
    options.add_argument("--data", default=os.environ.get("PATHASST_DATA", ""))
    options.add_argument("--show", action="store_true", help="print misses and false alarms")
    arguments = options.parse_args()
    if not arguments.data:
        raise SystemExit("Set PATHASST_DATA, or give --data.")
    captions = _captions(Path(arguments.data))
    with (Path(__file__).parent / "data/triage_labels.csv").open(newline="") as file:
        labels = list(csv.DictReader(file))
    rows: list[Row] = []
    fresh = [r for r in labels if r["stratum"] not in POPULATION]
    for label in (r for r in labels if r["stratum"] in POPULATION):
        caption = captions[label["id"]]["caption"]
        value = score_text(caption, title=captions[label["id"]]["title"])
        rows.append((label["stratum"], label["label"], value >= THRESHOLD))
        if arguments.show and (label["label"] in "ym") != rows[-1][2]:
            print(f"{'MISS' if label['label'] in 'ym' else 'extra'} {label['label']} {value:.1f} {caption[:230]}")
    dropped = sum(score_text(c["caption"], title=c["title"]) < THRESHOLD for c in captions.values()) / len(captions)
    print(f"{len(rows)} captions read: " + ", ".join(f"{k} {sum(r[1] == k for r in rows)}" for k in "ymn"))
    for wanted in ("y", "ym"):
        low, high = _interval(rows, wanted)
        found = [kept for _, label, kept in rows if label in wanted]
        plain = f"plain {sum(found)}/{len(found)} (Wilson {wilson(sum(found), len(found)).low:.3f}-)"
        print(f"recall on {'+'.join(wanted)}: weighted {_recall(rows, wanted):.3f} (95 % {low:.3f}-{high:.3f}), {plain}")
    for stratum in ("borderline", "far"):
        part = [r["label"] for r in fresh if r["stratum"] == stratum]
        print(f"fresh dropped captions, {stratum}: {len(part)} read, y {part.count('y')}, m {part.count('m')}")
    print(f"figures dropped, of all {len(captions)} captions: {dropped:.3f}")
    of_wanted = [kept for _, label, kept in rows if label == "y"]
    recall = wilson(sum(of_wanted), len(of_wanted))
    values = {"labels": len(labels), "wanted": len(of_wanted), "kept": sum(of_wanted), "recall": recall}
    save(arguments.json, values | {"captions": len(captions), "dropped": dropped})


if __name__ == "__main__":
    _main()
