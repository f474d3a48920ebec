"""What any brain says stands where a source says it too; else the results speak by themselves. One checker for all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import hypothesis
import numpy as np
import pytest
from assistant_parts import HITS, CountDark, ScriptedBrain, Shelf, call, say
from hypothesis import given
from hypothesis import strategies as st

from pathasst.assistant import ask, checker, checking
from pathasst.assistant.checker import Evidence, Sources
from pathasst.assistant.checking import Sieve, hold, reply_held
from pathasst.assistant.grounding import Grounding
from pathasst.assistant.statements import Kind
from pathasst.core.records import ToolCall, Turn
from pathasst.tools.protocol import Registry, Tool

COUNTED = "130 tumour cells: 3 Ki67-positive, 127 negative; Ki67 index 2.3 %."
SOURCES = Sources([Evidence("ki67_cells", COUNTED)])


def offering(tool: Tool[Any]) -> Registry:
    """A registry of one tool."""
    registry = Registry()
    registry.add(tool)
    return registry


@pytest.mark.parametrize(
    "sentence", ["The Ki67 index is 2.3 %.", "3 of 130 tumour cells are Ki67-positive.", "Ki67 index: 2.3 %."]
)
def test_what_a_result_says_stands(sentence: str) -> None:
    held = hold(sentence, SOURCES, Grounding.CHECKED)
    assert held.text == sentence
    assert [(s.kind, s.source) for s in held.statements] == [(Kind.TOOL, "ki67_cells")]


@pytest.mark.parametrize(
    "sentence",
    [
        "The Ki67 index is 3.2 %.",  # a digit changed
        "The Ki67 index is 50 %.",
        "127 tumour cells are Ki67-positive.",  # the other number
        "The tumour is malignant and aggressive, 2.3 %.",  # a finding added
        "The Ki67 index is not 2.3 %.",
    ],
)
def test_what_strays_from_a_result_goes(sentence: str) -> None:
    held = hold(sentence, SOURCES, Grounding.CHECKED)
    assert held.text.startswith("I cannot answer this with the models here.")
    assert held.notices == ["1 sentence of the model was left out: no source here says so."]


def test_of_a_text_the_wrong_sentence_alone_goes() -> None:
    text = "The Ki67 index is 2.3 %. This predicts a long survival."
    assert hold(text, SOURCES, Grounding.CHECKED).text == "The Ki67 index is 2.3 %."
    marked = hold(text, SOURCES, Grounding.MARKED)
    assert marked.text == text
    assert marked.notices == ["1 sentence from the model's own knowledge, checked by nothing."]


def test_a_list_keeps_its_marks_and_its_lines() -> None:
    text = (
        "Results:\n\n1. The Ki67 index is 2.3 %.\n2. This predicts a long survival.\n3. 3 of 130 tumour cells are Ki67-positive."
    )
    held = hold(text, SOURCES, Grounding.CHECKED)
    assert held.text == "Results:\n\n1. The Ki67 index is 2.3 %.\n3. 3 of 130 tumour cells are Ki67-positive."
    assert held.notices == ["1 sentence of the model was left out: no source here says so."]


WORDS = st.sampled_from(
    ["The Ki67 index is 2.3 %. ", "The Ki67 index is 23 %. ", "Approx. 130 tumour cells, ", "3 Ki67-positive. ", "\n", "\n\n",
     "1. ", "- ",
     "I ran it. ", "The tumour is benign.", " ", "| a | b |\n", "|---|---|\n", "e.g. a word"]
)  # fmt: skip


@hypothesis.settings(max_examples=150)
@given(
    parts=st.lists(WORDS, max_size=12), step=st.integers(1, 9), grounding=st.sampled_from([Grounding.CHECKED, Grounding.MARKED])
)
def test_what_stands_does_not_depend_on_how_the_words_come(parts: list[str], step: int, grounding: Grounding) -> None:
    text, sieve = "".join(parts), Sieve(SOURCES, grounding)
    streamed = "".join(sieve.add(text[n : n + step]) for n in range(0, len(text), step)) + sieve.close()
    whole = Sieve(SOURCES, grounding)
    assert streamed == whole.add(text) + whole.close()
    assert [s.text for s in sieve.standing] == [s.text for s in whole.standing]


def test_an_endless_sentence_is_looked_at_in_linear_time(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    monkeypatch.setattr(checking, "open_sentence", lambda text: looked.append(len(text)) or checker.open_sentence(text))
    sieve = Sieve(SOURCES, Grounding.CHECKED)
    for _ in range(20_000):
        sieve.add("a. ")
    assert sum(looked) < 20 * 60_000


@pytest.mark.parametrize("grounding", [Grounding.CHECKED, Grounding.MARKED])
def test_a_wrong_number_is_replaced_by_what_the_tool_says(spots: np.ndarray, grounding: Grounding) -> None:
    brain = ScriptedBrain([say("", call("count_dark")), say("7 dark spots.")], grounding=grounding)
    answer = ask(spots, "How many dark spots?", brain=brain, registry=offering(CountDark()))
    assert "7" not in answer.text
    assert "5 dark spots" in answer.text
    assert {s.kind for s in answer.statements} == {Kind.TOOL}


def test_a_model_that_says_nothing_leaves_the_word_to_the_results(spots: np.ndarray) -> None:
    brain = ScriptedBrain([say("", call("count_dark")), say("")], grounding=Grounding.CHECKED)
    answer = ask(spots, "How many dark spots?", brain=brain, registry=offering(CountDark()))
    assert "5 dark spots" in answer.text


def test_what_is_said_of_an_abstract_stands_in_that_abstract() -> None:
    script = [
        say("", call("papers_search", query="trastuzumab")),
        say("Trastuzumab improved survival in 340 patients [PMID 22222222]. It cures all patients [PMID 22222222]."),
    ]
    brain = ScriptedBrain(script, grounding=Grounding.CHECKED)
    answer = ask(None, "Does trastuzumab help?", brain=brain, registry=offering(Shelf(HITS)))
    assert "improved survival in 340 patients" in answer.text
    assert "cures" not in answer.text
    assert [(s.kind, s.source, s.evidence) for s in answer.statements] == [
        (Kind.PASSAGE, "22222222", "Trastuzumab improved survival in 340 patients.")
    ]


def test_a_retracted_abstract_supports_nothing() -> None:
    hits = [replace(HITS[1], retracted=True)]
    script = [say("", call("papers_search", query="x y")), say("Trastuzumab improved survival in 340 patients [PMID 22222222].")]
    answer = ask(
        None, "Does trastuzumab help?", brain=ScriptedBrain(script, grounding=Grounding.CHECKED), registry=offering(Shelf(hits))
    )
    assert "improved survival" not in answer.text


def test_thoughts_are_kept_apart_and_back_nothing(spots: np.ndarray) -> None:
    script = [
        say("<think>Perhaps 9 spots? I call the tool.</think>", call("count_dark")),
        say("<think>It says 5.</think>There are 5 dark spots."),
    ]
    answer = ask(spots, "How many?", brain=ScriptedBrain(script, grounding=Grounding.CHECKED), registry=offering(CountDark()))
    assert answer.text == "There are 5 dark spots."
    assert not any("think" in t.content for t in answer.turns)


def test_a_refusal_names_no_internals() -> None:
    """Neither a tool's name nor a trace, whatever the brain."""
    for grounding in Grounding:
        brain = ScriptedBrain([say("The answer is 42 per cent of all."), say("")], grounding=grounding)
        answer = ask(None, "What share of tumours is HPV positive?", brain=brain, registry=offering(CountDark()))
        assert "count_dark" not in answer.text
        assert "Error" not in answer.text


class TestReplies:
    """Replies to programs that run tools of their own."""

    turns = (
        Turn(role="user", content="What fraction is Ki67 positive?"),
        Turn(role="assistant", tool_calls=[ToolCall(name="my_counter", id="1")]),
        Turn(role="tool", tool="my_counter", content=COUNTED),
    )

    def test_they_are_held_to_the_results(self) -> None:
        for grounding in (Grounding.CHECKED, Grounding.MARKED):
            good = reply_held(say("The Ki67 index is 2.3 %."), self.turns, grounding)
            assert good.content == "The Ki67 index is 2.3 %."
            wrong = reply_held(say("The Ki67 index is 23 %."), self.turns, grounding)
            assert wrong.content.startswith(f"- my_counter: {COUNTED}")
            assert "23 %" not in wrong.content

    def test_a_brain_that_is_not_trusted_says_what_the_results_say(self) -> None:
        reply = reply_held(say("The Ki67 index is 23 %."), self.turns, Grounding.COMPOSED)
        assert reply.content == f"- my_counter: {COUNTED}"

    def test_references_that_no_result_gave_are_struck(self) -> None:
        reply = reply_held(say("See [PMID 31452104]."), self.turns, Grounding.MARKED)
        assert "[PMID 31452104]" not in reply.content.replace("~~[PMID 31452104]~~", "")
