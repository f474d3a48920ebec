from __future__ import annotations

import re
from collections import Counter
from functools import cache

import pytest
from instruct_samples import LABELLED, labelled

from pathasst.core.errors import BadSettings
from pathasst.core.records import Conversation, Pair, ToolSpec
from pathasst.instruct.invoke import NEAR, SHARES, Invoker
from pathasst.instruct.wordings import Wordings
from pathasst.tools.registry import CLASSES, all_specs, tool_class

SPECS = all_specs()
POOLS = {s: {d: [labelled(d, n, s) for n in range(3)] for d in LABELLED} for s in ("train", "val", "test")}
COUNT = 1500


@cache
def made() -> list[Conversation]:
    invoker = Invoker(SPECS, Wordings())
    return [invoker.make(n, POOLS) for n in range(COUNT)]


def scenario(conversation: Conversation) -> str:
    return conversation.scenario


def test_the_turns_are_well_formed() -> None:
    for c in made():
        assert c.turns[0].role == "user"
        assert c.turns[-1].role == "assistant"
        assert not c.turns[-1].tool_calls
        assert sum(t.content.count("<image>") for t in c.turns) == len(c.images)
        for before, after in zip(c.turns, c.turns[1:], strict=False):
            assert (before.role, after.role) in {
                ("user", "assistant"),
                ("assistant", "user"),
                ("assistant", "tool"),
                ("tool", "tool"),
                ("tool", "assistant"),
            }
        for i, turn in enumerate(c.turns):
            assert bool(turn.content) != bool(turn.tool_calls)
            if turn.tool_calls:  # each call is answered, in order
                answers = c.turns[i + 1 : i + 1 + len(turn.tool_calls)]
                assert [a.tool for a in answers] == [call.name for call in turn.tool_calls]


def test_only_tools_on_offer_are_called_and_their_arguments_fit() -> None:
    for c in made():
        for call in (call for t in c.turns for call in t.tool_calls):
            assert call.name in c.tools
            tool_class(call.name).arguments.model_validate(call.arguments)


def test_offers_vary_and_keep_the_usual_order() -> None:
    order = list(CLASSES)
    assert all(c.tools == sorted(c.tools, key=order.index) for c in made())
    sizes = Counter(len(c.tools) for c in made())
    assert set(range(1, 10)) <= set(sizes)


@pytest.mark.parametrize("name", ["not_offered", "wrong_picture", "no_picture", "unable", "off_topic", "plain"])
def test_refusals_and_plain_talk_call_nothing(name: str) -> None:
    some = [c for c in made() if scenario(c) == name and len({m.by for m in c.trail}) == 1]
    assert len(some) >= COUNT * SHARES[name] / 3
    assert not [t for c in some for t in c.turns if t.tool_calls]


def test_what_is_not_offered_is_not_there_and_no_number_is_invented() -> None:
    for c in made():
        if scenario(c) == "not_offered":
            assert c.tool
            assert c.tool not in c.tools
            assert not re.search(r"\d", c.turns[-1].content.replace("Ki67", "").replace("HER2", "").replace("PD-L1", ""))


def test_pictures_fit_the_tool_and_wrong_ones_are_named() -> None:
    domains = {tool: Wordings().load(f"tools/{tool}")["domain"] for tool in CLASSES}
    for c in made():
        kind, tool = c.scenario, c.tool
        for call in (call for t in c.turns for call in t.tool_calls):
            assert domains[call.name] == "any" or c.pair_id.startswith(domains[call.name])
        if kind in ("single", "failed") and domains[tool] != "any":
            assert c.pair_id.startswith(domains[tool])
        if kind == "wrong_picture":
            assert not c.pair_id.startswith(domains[tool])
            assert domains[tool] != "any"
        if kind == "no_picture":
            assert not c.images


def test_answers_hold_the_numbers_of_the_result() -> None:
    checked = 0
    for c in made():
        if scenario(c) != "single" or c.turns[-1].content.startswith("That did not"):
            continue
        said, result = c.turns[3].content, c.turns[2].content
        if not c.turns[1].tool_calls or c.turns[2].content.startswith("Error"):
            continue
        checked += 1
        known = set(re.findall(r"\d+(?:\.\d+)?", result + c.turns[0].content)) | {"67", "2", "1"}
        sums = {str(int(a) + int(b)) for a in known for b in known if a.isdigit() and b.isdigit()}
        assert set(re.findall(r"\d+(?:\.\d+)?", said)) <= known | sums
    assert checked > 300


def test_citations_are_of_what_was_found() -> None:
    cited = 0
    for c in made():
        found = {p for t in c.turns if t.role == "tool" for p in re.findall(r"\[PMID (\d+)\]", t.content)}
        said = {p for t in c.turns if t.role == "assistant" for p in re.findall(r"PMID (\d+)", t.content)}
        assert said <= found
        cited += bool(said)
    assert cited > 50


def test_answers_are_short() -> None:
    words = sorted(len(t.content.split()) for c in made() for t in c.turns if t.role == "assistant" and t.content)
    assert words[len(words) // 2] < 25
    assert words[int(0.95 * len(words))] < 60


def test_splits_follow_their_pictures_and_wordings() -> None:
    used: dict[str, set[str]] = {}
    for c in made():
        used.setdefault(c.split, set()).update(m.note for m in c.trail)
        if c.images:
            assert f":{c.split}:" in c.pair_id
    assert not used["train"] & used["test"]


def test_each_number_is_its_own_and_always_the_same() -> None:
    assert Invoker(SPECS, Wordings()).make(700, POOLS) == made()[700]
    assert Invoker(SPECS, Wordings(), seed=1).make(700, POOLS) != made()[700]


def test_every_tool_is_taught() -> None:
    calls = Counter(call.name for c in made() for t in c.turns for call in t.tool_calls)
    assert set(calls) == set(CLASSES)
    assert min(calls.values()) > 0.4 * max(calls.values())


def test_without_pictures_there_is_still_talk_and_nobody_is_asked_for_one() -> None:
    invoker = Invoker(SPECS, Wordings())
    some = [invoker.make(n, {}) for n in range(200)]
    assert not [c for c in some if c.images]
    assert not [c for c in some if scenario(c) in ("no_picture", "wrong_picture")]


def test_a_tool_of_other_arguments_gets_only_those_it_knows() -> None:
    spec = ToolSpec(name="ki67_cells", description="", parameters={"properties": {}})
    some = [Invoker([spec], Wordings(), shares={"single": 1.0}).make(n, {}) for n in range(60)]
    assert {str(call.arguments) for c in some for t in c.turns for call in t.tool_calls} == {"{}"}


def test_unknown_kinds_and_unworded_tools_are_refused() -> None:
    with pytest.raises(BadSettings, match="dance"):
        Invoker(SPECS, Wordings(), shares={"dance": 1.0})
    with pytest.raises(BadSettings, match="mine"):
        Invoker([ToolSpec(name="mine", description="", parameters={})], Wordings())


def test_near_tools_exist() -> None:
    assert {n for near in NEAR.values() for n in near} | set(NEAR) <= set(CLASSES)


def test_a_marker_prefers_pictures_of_its_own() -> None:
    other = [p for p in POOLS["train"]["ihc"] if isinstance(p, Pair)]
    plain = [labelled("ihc", 9)]
    plain = [
        Pair(**{**{f: getattr(p, f) for f in p.__dataclass_fields__}, "caption": "Immunohistochemistry.", "pair_id": "ihc:p"})
        for p in plain
    ]
    invoker = Invoker(SPECS, Wordings(), shares={"single": 1.0})
    some = [invoker.make(n, {s: {"ihc": [*other, *plain]} for s in POOLS}) for n in range(270)]
    assert {c.pair_id for c in some if (c.scenario, c.tool) == ("single", "her2_cells")} == {"ihc:p"}
