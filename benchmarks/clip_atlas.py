"""Neighbours in the atlas with each case left out: how often the nearest cases share organ, category and diagnosis.

    PATHASST_DATA=… python benchmarks/clip_atlas.py [--json FILE]

Beside the vectors of the shipped atlas: those of PathCLIP, a colour histogram and chance (random vectors). A query is one
field, or all fields of a case together (`case`); it counts where another case has its label, and each case weighs alike.
Intervals: bootstrap over cases, 1000 draws, seed 0.
"""

from __future__ import annotations

import csv
import os
from collections import Counter
from pathlib import Path

import numpy as np
from measured import command_line, save

from pathasst.clip.atlas import BEST, SHIPPED, Atlas
from pathasst.clip.baselines import histogram
from pathasst.clip.onnx import load as load_clip
from pathasst.imaging.pictures import load
from pathasst.nn.space import unit_rows

NAMES = ("organ", "category", "diagnosis")


def measure(vectors: np.ndarray, rows: list[dict[str, str]]) -> dict[str, list[object]]:
    """`organ field`, `organ case` …: share right of the nearest, among five, by vote; queries, cases, interval of the first."""
    slides = sorted({(r["case"], r["slide_id"]) for r in rows})
    slide = np.array([slides.index((r["case"], r["slide_id"])) for r in rows])
    labels = [{name: next(r[name] for r in rows if r["slide_id"] == s) for name in NAMES} for _, s in slides]
    cosines = vectors @ vectors.T
    near = np.stack([np.sort(cosines[:, slide == j], 1)[:, -BEST:].mean(1) for j in range(len(slides))], 1)
    cases, kind = np.array([r["case"] for r in rows]), np.array([r["kind"] for r in rows])
    queries = {"field": [(c, near[n]) for n, c in enumerate(cases) if kind[n] != "overview"]}
    queries["case"] = [(c, near[(cases == c) & (kind != "overview")].mean(0)) for c in sorted(set(cases))]
    table: dict[str, list[object]] = {}
    for unit, items in queries.items():
        for name in NAMES:
            of_case = {c: labels[n][name] for n, (c, _) in enumerate(slides)}
            right: dict[str, list[tuple[bool, bool, bool]]] = {}
            for case, row in items:
                truth, others = of_case[case], [v for c, v in of_case.items() if c != case]
                if not truth or truth not in others:
                    continue
                order = dict.fromkeys(slides[j][0] for j in np.argsort(-row) if slides[j][0] != case)
                five = [of_case[c] for c in list(order)[:5]]
                known = Counter(v for v in five if v).most_common(1)
                right.setdefault(case, []).append((five[0] == truth, truth in five, bool(known) and known[0][0] == truth))
            means = np.array([np.mean(v, axis=0) for v in right.values()])
            draws = np.random.default_rng(0).integers(0, len(means), (1000, len(means)))
            low, high = np.quantile(means[draws, 0].mean(1), (0.025, 0.975))
            shares = [round(float(v), 3) for v in means.mean(0)]
            table[f"{name} {unit}"] = [*shares, sum(map(len, right.values())), len(right), round(low, 3), round(high, 3)]
    return table


def main() -> None:
    """Measure and print."""
    parser = command_line(__doc__)
    parser.add_argument("--clip", default="pathclip-lite")
    options = parser.parse_args()
    folder = Path(os.environ["PATHASST_DATA"]) / "slide_atlas"
    with (folder / "patches.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    clip = load_clip(options.clip)
    encoded = [clip.encode_image([load(folder / r["file"]) for r in rows[n : n + 64]]) for n in range(0, len(rows), 64)]
    colours = np.stack([histogram(load(folder / r["file"])) for r in rows])
    spaces = {
        "atlas": Atlas.load(SHIPPED).vectors,  # its pictures are those of the table, in order
        options.clip: np.concatenate(encoded),
        "colour": unit_rows((colours - colours.mean(0)) / (colours.std(0) + 1e-3)),
        "chance": unit_rows(np.random.default_rng(0).normal(size=(len(rows), 64))),
    }
    results = {name: measure(vectors, rows) for name, vectors in spaces.items()}
    for name, table in results.items():
        for query, values in table.items():
            print(f"{name:14s} {query:16s}", *values)
    save(options.json, results)


if __name__ == "__main__":
    main()
