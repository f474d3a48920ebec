"""The scores of cards and pages are those last measured: they stand in benchmarks/results as they were kept."""

import json
import re
from pathlib import Path

import pytest

from pathasst.core.statistics import Interval
from pathasst.nn.detector.evaluate import ClassScores, DetectorScores
from pathasst.tools.registry import tool_class

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"


def interval(kept: dict[str, float]) -> str:
    return f"{kept['value']:.2f} ({kept['low']:.2f}–{kept['high']:.2f})"


def kept(name: str) -> dict:
    return json.loads((RESULTS / f"tools_{name}.json").read_text(encoding="utf-8"))["values"]


@pytest.mark.parametrize(
    ("tool", "rows"),
    [
        ("lbc_classify", [("lbc_fields", "all", "macro F1"), ("lbc_cells", "all", "macro F1")]),
        ("her2_cells", [("her2", "rule", "patches as their core"), ("her2", "rule", "kappa of patches")]),
        ("ki67_cells", [("ki67", "all, scaled as trained", "detection")]),
    ],
)
def test_a_cards_scores_are_those_measured(tool, rows):
    stated = re.findall(r"\d\.\d\d \(\d\.\d\d–\d\.\d\d\)", tool_class(tool).card.scores)
    assert stated == [interval(kept(result)[row][column]) for result, row, column in rows]


def scores(values: dict) -> DetectorScores:
    """What `pathasst tools evaluate` measured of a detector, from its kept result."""

    def one(kept: dict) -> ClassScores:
        return ClassScores(**{k: Interval(**v) if isinstance(v, dict) else v for k, v in kept.items()})

    classes = {name: one(kept) for name, kept in values["classes"].items()}
    means = Interval(**values["map50"]), Interval(**values["map"])
    return DetectorScores(values["pictures"], *means, one(values["any_class"]), classes)


@pytest.mark.parametrize(
    ("result", "page"),
    [
        ("blood", "models/blood-embedded/card.md"),
        ("blood", "docs/measured/tools.md"),
        ("lbc_detect", "models/lbc-detect-embedded/card.md"),
    ],
)
def test_a_detectors_table_is_the_one_measured(result, page):
    assert scores(kept(result)).table() in (ROOT / page).read_text(encoding="utf-8")


def test_the_abnormal_cells_scores_are_those_measured():
    found = scores(kept("lbc_detect"))
    ap, f1 = (f"{v.value:.3f} ({v.low:.3f}–{v.high:.3f})" for v in (found.any_class.ap50, found.any_class.f1))
    counts = f"{found.pictures} test fields, {found.any_class.there} abnormal cells"
    card = tool_class("lbc_detect").card.scores
    assert f"{counts}: AP@0.5 of any abnormal cell {ap}, F1 {f1}; mean" in card
    assert f"over the five classes {found.map50.value:.3f}: " in card


def test_the_generators_distances_are_those_measured():
    values = kept("generate")["Fréchet distance"]
    said = re.findall(r"(?:cells|noise) (\d+)", tool_class("lbc_generate").card.scores.partition("Fréchet")[2])
    assert [int(v) for v in said] == [round(values[name]) for name in ("drawn", "real training cells", "noise")]


def test_the_blood_counts_precision_is_the_one_measured():
    found = kept("blood")["map50"]
    said = f"mAP@0.5 {found['value']:.2f} (95 % interval {found['low']:.2f}–{found['high']:.2f})"
    assert said in tool_class("blood_cells").card.scores
