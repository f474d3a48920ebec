"""The local brain's care for a small model: what is cut, and in which order, when a conversation does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from pathasst.assistant.brains.local import LocalBrain
from pathasst.core.errors import BadInput
from pathasst.core.records import Attachment, ToolCall, ToolSpec, Turn
from pathasst.router.slot_filling import Reading

SPEC = ToolSpec(name="t", description="d", parameters={"properties": {"a": {}, "image": {"type": "string"}}})


class Narrow:
    """A model that reads only so many characters, and tells what it was given."""

    def __init__(self, room: int) -> None:
        self.room, self.says = room, "ok"
        self.how: dict[str, Any] = {}
        self.calls: list[ToolCall] = []
        self.given: tuple[list[Turn], list[bytes], list[ToolSpec]] = ([], [], [])

    def prompt_ids(self, turns: Sequence[Turn], images: int, tools: Sequence[ToolSpec]) -> list[int]:
        if (length := sum(len(t.content) for t in turns)) > self.room:
            raise BadInput("the prompt is too long")
        return [0] * length

    def stream(self, turns: Sequence[Turn], images: Sequence[bytes], tools: Sequence[ToolSpec], **how: Any) -> Any:
        self.how = how
        self.given = (list(turns), list(images), list(tools))
        yield self.says[:1]
        yield Turn(role="assistant", content=self.says, tool_calls=self.calls)

    def reply(self, *request: Any, **how: Any) -> Turn:
        return next(p for p in self.stream(*request, **how) if isinstance(p, Turn))

    def reply_many(self, requests: Sequence[Any], **how: Any) -> list[Turn]:
        return [self.reply(*request, **how) for request in requests]

    def write_call(self, turns: Sequence[Turn], images: Sequence[bytes], tools: Sequence[ToolSpec], name: str) -> ToolCall:
        self.given = (list(turns), list(images), list(tools))
        return ToolCall(name=name, arguments={"a": 1})


class Words:
    """A router that chooses the tools whose names stand in the request, or those called before when it is asked again."""

    classes, version = ("t", "blind", "gone"), "words@1"

    def choose(self, request: str, before: Sequence[str] = ()) -> list[str]:
        return list(before) if request.startswith("Again.") else [c for c in self.classes if c in request.split()]

    def reading(self, request: str, tool: str) -> Reading:
        return Reading()


def conversation() -> list[Turn]:
    return [
        Turn(role="user", content="<image>\nFirst question."),
        Turn(role="assistant", content="First answer."),
        Turn(role="user", content="Second question.\n(Pictures: mine.)", attachments=[Attachment(handle="image1", name="a.png")]),
        Turn(role="assistant", tool_calls=[]),
        Turn(role="tool", tool="t", content="word " * 400, attachments=[Attachment(handle="image2", name="x")]),
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
    assert any(t.content.endswith("Second question.\n(Pictures: mine.)") for t in turns)  # nothing of the person's is cut off
    assert not any("image1" in t.content for t in turns)
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


BLIND = ToolSpec(name="blind", description="d", parameters={"properties": {}}, needs_image=False)
OTHER = ToolSpec(name="other", description="d", parameters={"properties": {}})


def chosen(question: str, images: list[bytes], tools: list[ToolSpec], advice: str = "") -> tuple[Turn, Narrow]:
    model: Any = Narrow(10_000)
    brain = LocalBrain(model, "m@1", router=Words())  # type: ignore[arg-type]
    asked = ([Turn(role="user", content="<image>\n" * len(images) + question, advice=advice)], images, tools)
    one, (many,) = brain.reply(*asked), brain.reply_many([asked])
    assert one == many
    return one, model


def test_what_the_clients_program_advises_chooses_no_tool_and_is_not_read() -> None:
    """Every OpenAI client sends a system message; ours names tools in it."""
    turn, model = chosen("t please", [b"png"], [SPEC, BLIND], "Call t or blind first.")
    assert [c.name for c in turn.tool_calls] == ["t"]
    assert model.given[0][0].content == "<image>\nt please"


def test_the_router_decides_and_the_model_writes_what_cannot_be_read() -> None:
    turn, model = chosen("t and blind please", [b"png"], [SPEC, BLIND])
    assert [(c.name, c.arguments) for c in turn.tool_calls] == [("t", {"a": 1}), ("blind", {})]
    assert "image" not in model.given[2][0].parameters["properties"]


def test_what_the_words_fix_is_read_from_them() -> None:
    number = {"anyOf": [{"type": "number", "maximum": 1}, {"type": "null"}]}
    tool = ToolSpec(name="t", description="d", parameters={"properties": {"um_per_px": {"type": "number"}, "min_score": number}})
    turn, model = chosen("t at 40x, score above 0.6", [b"png"], [tool])
    assert [c.arguments for c in turn.tool_calls] == [{"um_per_px": 0.25, "min_score": 0.6}]
    assert not model.given[0]  # the model was not asked


def test_a_tool_that_is_missing_or_lacks_its_picture_is_told() -> None:
    turn, _ = chosen("gone", [b"png"], [SPEC])
    assert "gone, which is not on offer" in turn.content
    turn, _ = chosen("t", [], [SPEC, BLIND])
    assert "attach the picture: t needs one" in turn.content
    assert not turn.tool_calls


def test_words_are_the_models_own_and_no_call() -> None:
    turn, model = chosen("What is a nucleus?", [b"png"], [SPEC])
    assert turn.content == "ok"
    assert model.how["calls"] is False


def test_a_tool_the_router_does_not_know_is_left_to_the_model() -> None:
    _, model = chosen("What is a nucleus?", [b"png"], [SPEC, OTHER])
    assert model.how["calls"] is True


def test_what_the_words_fix_corrects_the_models_call_of_a_tool_that_the_router_does_not_know() -> None:
    place = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
    tool = ToolSpec(name="other", description="d", parameters={"properties": {"point": place, "note": {"type": "string"}}})
    model: Any = Narrow(10_000)
    model.calls = [ToolCall(name="other", arguments={"point": [1, 7], "note": "x"})]
    brain = LocalBrain(model, "m@1", router=Words())  # type: ignore[arg-type]
    asked = ([Turn(role="user", content="<image>\nMeasure at (12, 70).")], [b"png"], [tool])
    for turn in (brain.reply(*asked), *brain.reply_many([asked])):
        assert [c.arguments for c in turn.tool_calls] == [{"point": [12, 70], "note": "x"}]


def test_after_results_it_answers_and_calls_no_tool() -> None:
    model: Any = Narrow(10_000)
    brain = LocalBrain(model, "m@1", router=Words())  # type: ignore[arg-type]
    turns = [*conversation()[:-1], Turn(role="tool", tool="t", content="ok, 3 cells.")]
    assert brain.reply(turns, [b"png"], [SPEC]).content == "ok"
    assert model.how["calls"] is False


@pytest.mark.parametrize(("said", "calls"), [("Again.", ["t"]), ("Against what?", [])])
def test_the_router_is_told_which_tools_the_turn_before_called(said: str, calls: list[str]) -> None:
    model: Any = Narrow(10_000)
    brain = LocalBrain(model, "m@1", router=Words())  # type: ignore[arg-type]
    before = [
        Turn(role="user", content="<image>\nt"),
        Turn(role="assistant", tool_calls=[ToolCall(name="t")]),
        Turn(role="tool", tool="t", content="4 cells."),
        Turn(role="assistant", content="4 cells."),
    ]
    turn = brain.reply([*before, Turn(role="user", content=said)], [b"png"], [SPEC])
    assert [c.name for c in turn.tool_calls] == calls


@pytest.mark.parametrize(
    ("said", "arguments"),
    [
        ("Again.", {"box": [1, 2, 3, 4], "um_per_px": 0.5}),
        ("Again. At 40x.", {"box": [1, 2, 3, 4], "um_per_px": 0.25}),
        ("Again. At (7, 8).", {"point": [7, 8], "um_per_px": 0.5}),
        ("t with nothing said", {}),
    ],
)
def test_words_that_mean_nothing_alone_take_the_arguments_of_the_call_before(said: str, arguments: dict[str, Any]) -> None:
    places = {
        n: {"type": "array", "items": {"type": "number"}, "minItems": m, "maxItems": m} for n, m in (("point", 2), ("box", 4))
    }
    tool = ToolSpec(name="t", description="d", parameters={"properties": {**places, "um_per_px": {"type": "number"}}})
    before = [
        Turn(role="user", content="<image>\nt"),
        Turn(role="assistant", tool_calls=[ToolCall(name="t", arguments={"box": [1, 2, 3, 4], "um_per_px": 0.5})]),
        Turn(role="tool", tool="t", content="4 cells."),
    ]
    model: Any = Narrow(10_000)
    brain = LocalBrain(model, "m@1", router=Words())  # type: ignore[arg-type]
    turn = brain.reply([*before, Turn(role="user", content=said)], [b"png"], [tool])
    assert [c.arguments for c in turn.tool_calls] == [arguments]
