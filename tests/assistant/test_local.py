"""The local brain's care for a small model: what is cut, and in which order, when a conversation does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from pathasst.assistant.brains.local import LocalBrain
from pathasst.errors import BadInput
from pathasst.records import ToolSpec, Turn

SPEC = ToolSpec(name="t", description="d", parameters={"properties": {"a": {}, "image": {"type": "string"}}})


class Narrow:
    """A model that reads only so many characters, and tells what it was given."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.given: tuple[list[Turn], list[bytes], list[ToolSpec]] = ([], [], [])

    def prompt_ids(self, turns: Sequence[Turn], images: int, tools: Sequence[ToolSpec]) -> list[int]:
        if (length := sum(len(t.content) for t in turns)) > self.room:
            raise BadInput("the prompt is too long")
        return [0] * length

    def stream(self, turns: Sequence[Turn], images: Sequence[bytes], tools: Sequence[ToolSpec], max_new_tokens: int = 0) -> Any:
        self.given = (list(turns), list(images), list(tools))
        yield "o"
        yield Turn(role="assistant", content="ok")

    def reply_many(self, requests: Sequence[Any], max_new_tokens: int = 0) -> list[Turn]:
        return [next(p for p in self.stream(*request) if isinstance(p, Turn)) for request in requests]


def conversation() -> list[Turn]:
    return [
        Turn(role="user", content="<image>\nFirst question."),
        Turn(role="assistant", content="First answer."),
        Turn(role="user", content="Second question.\n(Pictures: image1 (a.png), image2 (x).)"),
        Turn(role="assistant", tool_calls=[]),
        Turn(role="tool", tool="t", content="word " * 400 + "\nPictures made: image2 (x)."),
    ]


@pytest.mark.parametrize(
    ("room", "tool_characters", "questions"),
    [(10_000, 1500, 2), (900, 600, 2), (300, 200, 2), (250, 200, 1)],
)
def test_results_are_cut_first_and_old_questions_dropped_last(room: int, tool_characters: int, questions: int) -> None:
    model: Any = Narrow(room)
    assert LocalBrain(model, "m@1").reply(conversation(), [b"png"], [SPEC]).content == "ok"
    turns, images, tools = model.given
    assert len(turns[-1].content) <= tool_characters + 2
    assert "Pictures made" not in turns[-1].content
    assert sum(t.role == "user" for t in turns) == questions
    assert sum(t.content.count("<image>") for t in turns) == len(images) == 1  # the picture moves to the question that is left
    assert not any("(Pictures: " in t.content for t in turns)
    assert "image" not in tools[0].parameters["properties"]


def test_a_question_that_cannot_fit_is_refused() -> None:
    model: Any = Narrow(100)
    with pytest.raises(BadInput):
        LocalBrain(model, "m@1").reply(conversation(), [b"png"], [])


def test_several_at_once_are_cut_each_for_itself() -> None:
    model: Any = Narrow(900)
    replies = LocalBrain(model, "m@1").reply_many([(conversation(), [b"png"], [SPEC]), (conversation()[:1], [b"png"], [])])
    assert [r.content for r in replies] == ["ok", "ok"]
    assert len(model.given[0]) == 1


def test_words_come_as_they_are_made() -> None:
    model: Any = Narrow(10_000)
    assert next(LocalBrain(model, "m@1").stream(conversation(), [b"png"], [])) == "o"
