from __future__ import annotations

import json
import re
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathasst.instruct.literature import literature
from pathasst.instruct.requests import COUNTED, Requests
from pathasst.instruct.wordings import Wordings
from pathasst.tools.registry import CLASSES, tool_class

WORDINGS = Wordings()
REQUESTS = Requests(WORDINGS, literature(WORDINGS))
CAREFUL = Requests(WORDINGS, literature(WORDINGS), slips=0.0, framed=0.0)
SPLITS = st.sampled_from(["train", "val", "test"])


@settings(max_examples=150, deadline=None)
@given(tool=st.sampled_from(list(CLASSES)), seed=st.integers(0, 10**9), split=SPLITS)
def test_arguments_fit_the_tool_and_stand_in_the_words(tool: str, seed: int, split: str) -> None:
    request = REQUESTS.draw(tool, Random(seed), split)
    arguments = request.call.arguments
    tool_class(tool).arguments.model_validate(arguments)
    assert json.loads(json.dumps(arguments)) == arguments
    assert not re.search(r"[{}|]", request.framed)
    said = request.text.lower()
    for number in _numbers(arguments):
        word = COUNTED[int(number) - 2] if number in map(str, range(2, 13)) else number
        assert number in said or word in said or (number in ("0.5", "0.25") and re.search(r"[24]0 ?[x×]|×[24]0", said))
    for word in str(arguments.get("query", "")).lower().split():
        assert word in said


@pytest.mark.parametrize("tool", list(CLASSES))
def test_every_intent_has_an_answer_and_its_slots_are_filled(tool: str) -> None:
    node = WORDINGS.load(f"tools/{tool}")
    for part in ("train", "test"):
        for kind in ("requests", "things", "acts"):
            assert set(node[kind][part]) <= set(node["answers"])
    for intent in node["requests"]["train"]:
        for n in range(30):
            assert CAREFUL.draw(tool, Random(n), "train", intent=intent).intent == intent


def test_splits_share_no_wording() -> None:
    used = {s: {REQUESTS.draw(t, Random(n), s).template for t in CLASSES for n in range(150)} for s in ("train", "test")}
    assert len(used["train"]) > 700
    assert not used["train"] & used["test"]


def test_a_hurried_request_keeps_its_arguments() -> None:
    hurried = Requests(WORDINGS, literature(WORDINGS), slips=1.0)
    changed = 0
    for n in range(100):
        request = hurried.draw("papers_search", Random(n), "train")
        assert all(w in request.text for w in request.call.arguments["query"].split() if w[0].islower())
        changed += request.text[0].islower()
    assert changed > 50


def _numbers(value: object) -> list[str]:
    if isinstance(value, bool):
        return []
    if isinstance(value, int | float):
        return [f"{value:g}"]
    if isinstance(value, dict):
        return [n for k, v in value.items() if k != "query" for n in _numbers(v)]
    return [n for v in value for n in _numbers(v)] if isinstance(value, list) else []
