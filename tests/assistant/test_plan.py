"""What a plan says where no tool may run, from the words and the router's decision."""

from __future__ import annotations

import pytest

from pathasst.assistant.compose import fixed
from pathasst.assistant.compose.terms import defined
from pathasst.assistant.images import ChatPictures
from pathasst.assistant.plan import Plan, plan
from pathasst.papers import PaperIndex
from pathasst.router.route import Reason, Route
from pathasst.tools.papers_search import PapersSearch
from pathasst.tools.protocol import Registry


class Unbuilt(PapersSearch):
    """The literature search before its collection is built."""

    def missing(self) -> list[str]:  # type: ignore[override]
        return ["paper collection"]

    def index(self) -> PaperIndex:
        raise AssertionError("a tool that is not on offer was asked")


def planned(question: str, reason: Reason, *tools: str) -> Plan:
    registry = Registry()
    registry.add(Unbuilt())
    route = Route(reason=reason, confidence=0.9, tools=tools)
    return plan(question, route, ChatPictures([]), registry, None)


def said(question: str, reason: Reason, *tools: str) -> str:
    return " ".join(s.text for s in planned(question, reason, *tools).before)


def test_a_search_without_its_collection_asks_for_no_picture() -> None:
    text = said("Any trials of aspirin in colorectal adenoma?", Reason.NOT_OFFERED, "papers_search")
    assert "the literature search, which is not on offer" in text
    assert "picture" not in text


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("thanks, that was all", fixed.THANKS["en"]),
        ("which file formats can I give you", fixed.FORMATS),
        ("do you keep what I upload?", fixed.PRIVATE),
        ("how accurate are you?", fixed.ACCURATE),
    ],
)
def test_talk_is_answered_as_it_was_meant(question: str, answer: str) -> None:
    reason = Reason.SMALL_TALK if answer in fixed.THANKS.values() else Reason.CAPABILITIES
    assert said(question, reason) == answer


def test_thanks_before_a_request_do_not_hide_it() -> None:
    assert "You are welcome" not in said("Thanks. Now any trials?", Reason.NOT_OFFERED, "papers_search")


@pytest.mark.parametrize(
    ("question", "term"),
    [
        ("Was bedeutet R1 im Arztbrief?", "R classification"),
        ("linfonodo sentinella, cosa sarebbe?", "sentinel lymph node"),
        ("Poikilozytose?", "poikilocytosis"),
        ("My report says poorly differentiated. Is it bad?", "differentiation"),
        ("前哨淋巴结是什么", "sentinel lymph node"),
        ("What is the Ki67 index in breast cancer?", "Ki67 index"),
        ("What is this?", None),
    ],
)
def test_the_term_that_is_asked_is_looked_up_in_any_language(question: str, term: str | None) -> None:
    entry = defined(question)
    assert (entry.term if entry else None) == term


def test_a_definition_without_a_picture_is_looked_up_and_asks_for_none() -> None:
    text = said("Was ist ein Siegelringzellkarzinom?", Reason.DEFINITION)
    assert "signet ring cell" in text
    assert "attach" not in text
