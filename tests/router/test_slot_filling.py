"""Arguments read from words by the types of a schema: those of our tools, and of one that nobody knows."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from pathasst.core.records import ToolSpec
from pathasst.instruct.literature import literature
from pathasst.instruct.requests import Requests
from pathasst.instruct.wordings import Wordings
from pathasst.router.labels import located
from pathasst.router.slot_filling import Reading, read, unread
from pathasst.tools.registry import all_specs

SPECS = {s.name: s for s in all_specs()}
REQUESTS = Requests(Wordings(), literature(Wordings()), slips=0.0)
OWN = ToolSpec(
    name="tissue_depth",
    description="A user's own tool.",
    parameters={
        "type": "object",
        "required": ["organ"],
        "properties": {
            "organ": {"type": "string", "enum": ["skin", "gut wall", "bladder"]},
            "from_point": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2},
            "regions": {
                "type": "array",
                "items": {"type": "array", "prefixItems": [{"type": "number"}] * 4, "minItems": 4, "maxItems": 4},
            },
            "repeats": {"type": "integer", "minimum": 1, "maximum": 9},
            "confidence": {"anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, {"type": "null"}]},
            "with_overlay": {"type": "boolean", "default": False},
            "remark": {"type": "string"},
        },
    },
)


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        (
            "Depth in the gut-wall from (10, 20), confidence 80 %",
            {"organ": "gut wall", "from_point": [10, 20], "confidence": 0.8},
        ),
        ("skin, box 1 2 30 40, with an overlay", {"organ": "skin", "regions": [[1, 2, 30, 40]], "with_overlay": True}),
        ("bladder without overlay, 3 repeats", {"organ": "bladder", "repeats": 3}),
        ("bladder, repeats: 12", {"organ": "bladder"}),
        ("How deep is it?", {}),
    ],
)
def test_the_schema_of_an_unknown_tool_is_enough(words: str, arguments: dict[str, Any]) -> None:
    (call,) = read(OWN, words)
    assert call == arguments
    assert unread(OWN, call) == [n for n in ("organ", "remark") if n not in call]
    assert unread(OWN, call, Reading(frozenset({"remark"}))) == [n for n in ("organ",) if n not in call]


@pytest.mark.parametrize(
    ("tool", "words", "reading", "calls"),
    [
        ("segment", "Segment everything.", Reading(), [{}]),
        (
            "papers_search",
            "Papers on HER2, the board starts in ten minutes.",
            Reading(spans={"query": [(10, 14)]}),
            [{"query": "HER2"}],
        ),
        ("segment", "The cell at (50, 70), not (90, 70)", Reading(), [{"points": [[50, 70]], "not_points": [[90, 70]]}]),
        ("segment", "The gland at (3, 4) and the one at (50, 60).", Reading(), [{"points": [[3, 4]]}, {"points": [[50, 60]]}]),
        ("ki67_cells", "Ki67 at 40x, score over 0.6", Reading(), [{"um_per_px": 0.25, "min_score": 0.6}]),
        ("ki67_cells", "Ki67, threshold 0.6", Reading(spans={"min_score": [(16, 19)]}), [{"min_score": 0.6}]),
        (
            "blood_cells",
            "a diff",
            Reading(frozenset({"white_cell_types"}), {"white_cell_types": ["true"]}),
            [{"white_cell_types": True}],
        ),
        ("lbc_generate", "an ASC-H cell, seed 7", Reading(), [{"cell_class": "ASC-H", "seed": 7}]),
        ("lbc_generate", "a cancer cell", Reading(choices={"cell_class": ["SCC", "HSIL"]}), [{"cell_class": "SCC"}]),
        (
            "lbc_generate",
            "one LSIL and two HSIL cells",
            Reading(choices={"cell_class": ["HSIL", "LSIL"]}, spans={"count": [(13, 16)]}),
            [{"cell_class": "LSIL"}, {"cell_class": "HSIL", "count": 2}],
        ),
        (
            "papers_search",
            "Papers on CDX2 and on SATB2",
            Reading(spans={"query": [(10, 14), (22, 27)]}),
            [{"query": "CDX2"}, {"query": "SATB2"}],
        ),
    ],
)
def test_calls_of_our_tools(tool: str, words: str, reading: Reading, calls: list[dict[str, Any]]) -> None:
    assert read(SPECS[tool], words, reading) == calls


@pytest.mark.parametrize("tool", sorted(SPECS))
def test_composed_requests_give_back_their_call(tool: str) -> None:
    """At least 99 of 100: a few wordings fix nothing ("the part (506, 70) and (569, 215)": a box, or two points?)."""
    requests = [REQUESTS.draw(tool, Random(seed), split) for seed in range(100) for split in ("train", "val", "test")]
    requests = [r for r in requests if _amounts_differ(r.call.arguments)]
    wrong = [(r.framed, r.call.arguments) for r in requests if not _given_back(tool, r.framed, r.call.arguments)]
    assert len(wrong) <= len(requests) / 100, wrong


def _amounts_differ(wanted: dict[str, Any]) -> bool:
    """Of two equal numbers nobody can tell which is which."""
    amounts = [v for v in wanted.values() if isinstance(v, int | float) and not isinstance(v, bool)]
    return len(set(amounts)) == len(amounts)


def _given_back(tool: str, words: str, wanted: dict[str, Any]) -> bool:
    found = {n: where for n, v in wanted.items() if isinstance(v, str | int | float) and (where := located(v, words))}
    choices = {n: ["true" if v is True else str(v)] for n, v in wanted.items() if isinstance(v, str | bool) and n != "query"}
    spans = {n: [where] for n, where in found.items() if n not in choices}
    calls = read(SPECS[tool], words, Reading(frozenset(SPECS[tool].parameters["properties"]), choices, spans))
    query = [w.lower() for w in wanted.get("query", "").split()]
    return [{n: v for n, v in c.items() if n != "query"} for c in calls] == [
        {n: v for n, v in wanted.items() if n != "query"}
    ] and all(w in calls[0].get("query", "").lower() for w in query)


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        ("nochmal, aber nur Zellen über 0,7", {"min_score": 0.7}),  # a decimal below one is the share that the tool takes
        ("Is Ki67 above 14 % here?", {}),  # a percentage asks of the result
        ("Ki67, Pixelgröße 0,23 µm", {"um_per_px": 0.23}),
        ("il me faut le ki67, objectif x40", {"um_per_px": 0.25}),
    ],
)
def test_shares_and_scales_in_other_words(words: str, arguments: dict[str, float]) -> None:
    assert read(SPECS["ki67_cells"], words) == [arguments]


def test_a_scale_is_no_point() -> None:
    calls = read(SPECS["segment"], "Fläche der Struktur bei (77, 140), 0,5 µm pro Pixel")
    assert calls == [{"points": [[77, 140]], "um_per_px": 0.5}]


def test_a_text_of_an_article_or_a_sign_is_none() -> None:
    reading = Reading(frozenset({"query"}), spans={"query": [(18, 20)]})
    assert read(SPECS["papers_search"], "six publications: le mélanome", reading) == [{"k": 6}]
