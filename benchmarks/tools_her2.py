"""her2_cells on her2_eso_tma: the score of each patch beside that of its core; agreement and weighted kappa by patch and by core.

    PATHASST_DATA=… python benchmarks/tools_her2.py [--cache FILE.json] [--json FILE]

A core's score is the highest of its patches. Quadratic weights. Intervals: 95 %, by bootstrap over cores. Beside the rule stands
an ordinal logistic regression on the share of strong DAB, each core left out in turn.
"""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from measured import command_line, save

from pathasst.core.records import ToolCall
from pathasst.core.statistics import Interval
from pathasst.imaging.pictures import load
from pathasst.imaging.stains import DAB, unmix
from pathasst.tools.cells.her2 import GRADES, Her2Cells

WEAK = 0.2


def patches(data: Path) -> list[dict[str, Any]]:
    """Core, the core's score, the patch's by the tool (0 where it sees no cell), and its share of DAB, of every patch."""
    os.environ["PATHASST_GUARD"] = "off"
    tool, found = Her2Cells(), []
    with (data / "her2_eso_tma/labels.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            image = load(data / "her2_eso_tma" / row["file"])
            score = tool(ToolCall(name="her2_cells"), image).numbers.get("score") or "0"
            brown = float((unmix(image)[..., DAB] > WEAK).mean())
            found.append({"core": row["core"], "label": row["ihc_score"], "score": score, "brown": brown})
    return found


def kappa(truth: np.ndarray, own: np.ndarray) -> float:
    """Quadratically weighted kappa of grades 0–3; 0 where both always say the same."""
    weights = (np.arange(4)[:, None] - np.arange(4)) ** 2
    counts = np.zeros((4, 4))
    np.add.at(counts, (truth, own), 1)
    chance = counts.sum(1)[:, None] * counts.sum(0) / counts.sum()
    return float(1 - (weights * counts).sum() / (weights * chance).sum()) if (weights * chance).sum() else 0.0


def regression(rows: list[dict[str, Any]], truth: np.ndarray, cores: np.ndarray) -> np.ndarray:
    """Grades by three logistic regressions (at least 1+, 2+, 3+) on the logarithm of the share of DAB, each core left out."""
    from sklearn.linear_model import LogisticRegression

    values, grades = np.log([[r["brown"] + 0.001] for r in rows]), np.zeros(len(rows), int)
    for core in sorted(set(cores.tolist())):
        rest = cores != core
        weights = np.array([1 / (cores[rest] == c).sum() for c in cores[rest]])
        for least in (1, 2, 3):
            reached = truth[rest] >= least
            if reached.any():
                grades[~rest] += LogisticRegression(C=10).fit(values[rest], reached, weights).predict(values[~rest]).astype(int)
    return grades


def compared(truth: np.ndarray, own: np.ndarray, cores: np.ndarray) -> dict[str, Any]:
    """Agreement and kappa of patches and of cores, with intervals over cores."""
    names = sorted(set(cores.tolist()))
    places = [np.flatnonzero(cores == c) for c in names]
    by_core = np.array([(truth[p[0]], own[p].max()) for p in places])
    rng = np.random.default_rng(0)
    draws = [rng.integers(0, len(names), len(names)) for _ in range(1000)]

    def interval(of: Any) -> Interval:
        values = [of(draw) for draw in draws]
        return Interval(of(np.arange(len(names))), *(float(v) for v in np.quantile(values, (0.025, 0.975))))

    def joined(draw: np.ndarray) -> np.ndarray:
        return np.concatenate([places[k] for k in draw])

    return {
        "patches": len(truth),
        "cores": len(names),
        "patches as their core": interval(lambda d: float((truth == own)[joined(d)].mean())),
        "kappa of patches": interval(lambda d: kappa(truth[joined(d)], own[joined(d)])),
        "cores right": interval(lambda d: float((by_core[d, 0] == by_core[d, 1]).mean())),
        "kappa of cores": interval(lambda d: kappa(*by_core[d].T)),
    }


def main() -> None:
    """Measure and print."""
    parser = command_line(__doc__)
    parser.add_argument("--cache", type=Path, help="file of the patches' scores")
    options = parser.parse_args()
    if options.cache and options.cache.is_file():
        rows = json.loads(options.cache.read_text())
    else:
        rows = patches(Path(os.environ["PATHASST_DATA"]))
        if options.cache:
            options.cache.write_text(json.dumps(rows))
    truth = np.array([GRADES.index(r["label"].rstrip("+") + "+" * (r["label"] != "0")) for r in rows])
    own, cores = np.array([GRADES.index(r["score"]) for r in rows]), np.array([r["core"] for r in rows])
    values: dict[str, Any] = {"rule": compared(truth, own, cores)}
    values["regression on DAB, cores left out"] = compared(truth, regression(rows, truth, cores), cores)
    for grade, name in enumerate(GRADES):
        values["rule"][f"{name}, patches as"] = {g: int(((truth == grade) & (own == k)).sum()) for k, g in enumerate(GRADES)}
    for name, scores in values.items():
        print(name, {k: str(v) for k, v in scores.items()})
    save(options.json, values)


if __name__ == "__main__":
    main()
