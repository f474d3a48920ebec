"""The protocol of answers: its questions can be read, and each class of verdict is given where it belongs."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from pathasst.assistant import Answer
from pathasst.assistant.statements import Kind, Statement
from pathasst.evaluate.grounding import GroundingQuestion, Verdict, judge, load

ASKED = GroundingQuestion(id="q", ask="Ki67 index?", group="Ki67", half="dev", must=("Ki67 index",), number=46.0, within=5.0)
MALIGNANT = GroundingQuestion(id="q", ask="Malignant?", group="look", half="dev", must_not=(r"is benign",), decline="must")


def answer(text: str, kind: Kind | None = Kind.FIXED) -> Answer:
    return Answer(question="?", text=text, statements=[Statement(text=text, kind=kind)] if kind else [])


def test_there_are_two_hundred_questions_in_two_halves_with_patterns_that_compile() -> None:
    questions = load()
    halves = Counter(q.half for q in questions)
    assert len(questions) >= 200 and set(halves) == {"dev", "test"} and min(halves.values()) >= 90
    assert len({q.ask + q.picture + q.before for q in questions}) == len(questions)
    for question in questions:
        assert question.must or question.decline == "must"
        for pattern in (*question.must, *question.must_not):
            re.compile(pattern)


@pytest.mark.parametrize(
    ("question", "text", "kind", "verdict"),
    [
        (ASKED, "The Ki67 index is 49.3 % (68 of 138).", Kind.TOOL, Verdict.RIGHT),
        (ASKED, "The Ki67 index is 20 %.", Kind.FIXED, Verdict.PARTLY),
        (ASKED, "I cannot answer this with the models here.", Kind.FIXED, Verdict.DECLINED_WRONGLY),
        (ASKED, "It is a blood smear.", None, Verdict.INVENTED),
        (ASKED, "It is a blood smear.", Kind.GLOSSARY, Verdict.WRONG),
        (MALIGNANT, "Please attach a picture: a section.", Kind.FIXED, Verdict.DECLINED_RIGHTLY),
        (MALIGNANT, "No, it is benign.", None, Verdict.INVENTED),
    ],
)
def test_verdicts(question: GroundingQuestion, text: str, kind: Kind | None, verdict: Verdict) -> None:
    assert judge(question, answer(text, kind)) is verdict
