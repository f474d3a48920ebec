from __future__ import annotations

import pytest

from pathasst.core.records import Conversation, Source, Turn
from pathasst.instruct.subsets import count_tokens, phase1, phase2

LONG, SHORT = "word " * 51, "word " * 50


def conversation(kind: str, source: str, caption: str = LONG, panels: int = 1) -> Conversation:
    return Conversation(
        conversation_id=f"{kind}-{source}-{panels}",
        kind=kind,
        turns=[Turn(role="user", content="q"), Turn(role="assistant", content="a")],
        source=Source(article_id="x", kind=source),
        caption=caption,
        panels=panels,
    )


@pytest.mark.parametrize(("kind", "kept"), [("describe", True), ("converse", False), ("invoke", False)])
def test_phase_1_is_the_detailed_descriptions(kind: str, kept: bool) -> None:
    assert bool(list(phase1([conversation(kind, "article")]))) is kept


@pytest.mark.parametrize(
    ("kind", "source", "caption", "panels", "kept"),
    [
        ("describe", "book", SHORT, 4, True),  # all the data from books
        ("converse", "book", SHORT, 1, True),
        ("converse", "article", LONG, 1, True),  # PubMed, single image, over 50 tokens
        ("describe", "article", LONG, 1, True),
        ("converse", "article", SHORT, 1, False),
        ("converse", "article", LONG, 2, False),
        ("invoke", "labels", "", 1, True),
        ("converse", "labels", LONG, 1, False),
    ],
)
def test_phase_2_is_as_the_paper_says(kind: str, source: str, caption: str, panels: int, kept: bool) -> None:
    assert bool(list(phase2([conversation(kind, source, caption, panels)]))) is kept


def test_labels_join_phase_2_only_when_asked() -> None:
    one = conversation("converse", "labels", SHORT)
    assert list(phase2([one], labels=True)) == [one]


def test_the_tokens_may_be_counted_by_the_llm() -> None:
    assert count_tokens("H&E, 40x.") == 6
    one = conversation("converse", "article", SHORT)
    assert list(phase2([one], count=len)) == [one]
