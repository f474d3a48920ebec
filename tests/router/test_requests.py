"""Requests drawn from the wordings: what they are labelled with stands in them, and no test set's words are among them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from pathasst.core.templates import Template
from pathasst.evaluate.toolchoice import load_requests
from pathasst.router.labels import learnable
from pathasst.router.requests import LANGUAGES, RouterRequests, without, wordings, words_of
from pathasst.router.route import Reason
from pathasst.router.slot_values import number_in
from pathasst.tools.registry import CLASSES, tool_class

TESTS = sorted((Path(__file__).parents[2] / "benchmarks/data").glob("*requests*.yaml"))


@pytest.fixture(scope="module")
def items() -> list:
    return list(RouterRequests("train").items(3000))


def test_every_language_asks_for_every_tool_and_gives_every_reason_for_none() -> None:
    unlearned = {Reason.CALLS, Reason.NEEDS_PICTURE, Reason.NOT_OFFERED, Reason.NEEDS_WORDS, Reason.UNKNOWN}
    for language in LANGUAGES:
        made = wordings(language)
        assert {t for w in made for t in w.tools} >= {*CLASSES, "look", "similar_cases", "he_nuclei"}
        assert {w.reason for w in made} == set(Reason) - unlearned | {Reason.CALLS}
        assert {w.split for w in made} == {"train", "val"}


def test_the_same_number_is_the_same_request_and_val_has_other_wordings(items: list) -> None:
    assert list(RouterRequests("train").items(20)) == items[:20] != list(RouterRequests("train", seed=1).items(20))
    assert not {i.group for i in items} & {i.group for i in RouterRequests("val").items(500)}
    shares = Counter(i.kind.split()[0] for i in items)
    assert set(shares) == set(LANGUAGES) and shares["en"] > 900 and min(shares.values()) > 200


def test_a_value_stands_where_the_span_says(items: list) -> None:
    numbers = 0
    for item in items:
        arguments = dict(item.arguments)
        for name, start, end in item.spans:
            assert 0 <= start < end <= len(item.text), item
            value, text = arguments.get(name), item.text[start:end]
            if name.endswith((".k", ".count", ".min_score", ".seed", ".since", ".pmid")):
                percent = "%" in text
                assert number_in(text) == pytest.approx(value * 100 if percent else value), (item.text, text)
                numbers += 1
    assert numbers > 100


def test_the_fixed_arguments_fit_the_tools(items: list) -> None:
    for item in items:
        for name, value in item.arguments:
            tool, _, argument = name.partition(".")
            if argument not in ("since", "pmid"):
                known = (*CLASSES, "look", "he_nuclei")
                fields = tool_class(tool).arguments.model_fields if tool in known else {"k": None}
                assert argument in fields, name
                assert value is not None


def test_what_is_learnt_are_switches_classes_pictures_and_places_in_the_words(items: list) -> None:
    choices, spans = learnable(items)
    assert {"blood_cells.white_cell_types=true", "lbc_generate.cell_class=HSIL", "image=2"} <= set(choices)
    assert {"papers_search.query", "papers_search.k", "lbc_generate.count", "ki67_cells.min_score"} <= set(spans)
    assert not [s for s in spans if s.endswith("um_per_px")]


def test_words_of_a_test_set_are_left_out(items: list) -> None:
    one = items[0]
    assert without([one], [one.text.upper() + "!"]) == []
    assert without([one], ["something else"]) == [one]
    held_out = [r.say for path in (None, *TESTS) for r in load_requests(path)]
    assert len(held_out) > 600
    rest = {words_of(i.text) for i in without(items, held_out)}
    assert not rest & {words_of(text) for text in held_out}


def test_the_templates_are_well_formed() -> None:
    for language in LANGUAGES:
        for wording in wordings(language):
            for text in Template(wording.text).expansions():
                assert text.strip() and not set("[]|") & set(text.replace("[mpp]", "")), wording
