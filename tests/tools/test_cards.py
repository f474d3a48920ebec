"""A card's scores are those last measured: every one stands in benchmarks/results as it was kept."""

import json
import re
from pathlib import Path

import pytest

from pathasst.tools.registry import tool_class

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def interval(kept: dict[str, float]) -> str:
    return f"{kept['value']:.2f} ({kept['low']:.2f}–{kept['high']:.2f})"


def kept(name: str) -> dict:
    return json.loads((RESULTS / f"tools_{name}.json").read_text(encoding="utf-8"))["values"]


@pytest.mark.parametrize(
    ("tool", "result", "rows"),
    [
        ("lbc_classify", "lbc", [("mendeley, model", "macro F1"), ("cric, model", "macro F1")]),
        (
            "ki67_cells",
            "ki67",
            [("bcdata_ki67, scaled as trained (×1.0)", "detection"), ("shidc_ki67, scaled as trained (×0.7)", "detection")],
        ),
    ],
)
def test_a_cards_scores_are_those_measured(tool, result, rows):
    values = kept(result)
    said = re.findall(r"\d\.\d\d \(\d\.\d\d–\d\.\d\d\)", tool_class(tool).card.scores)
    assert said == [interval(values[row][column]) for row, column in rows]


def test_the_generators_distances_are_those_measured():
    values = kept("generate")["Fréchet distance"]
    said = re.findall(r"(?:cells|noise) (\d+)", tool_class("lbc_generate").card.scores.partition("Fréchet")[2])
    assert [int(v) for v in said] == [round(values[name]) for name in ("drawn", "real training cells", "noise")]


def test_the_blood_counts_precision_is_the_one_measured():
    found = kept("blood")["map50"]
    said = f"mAP@0.5 {found['value']:.2f} (95 % interval {found['low']:.2f}–{found['high']:.2f})"
    assert said in tool_class("blood_cells").card.scores
