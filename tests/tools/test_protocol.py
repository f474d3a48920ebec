"""The protocol: arguments checked, errors readable, pictures of the right kind, times and provenance in the result."""

from dataclasses import FrozenInstanceError, replace
from typing import Annotated, Self

import numpy as np
import pytest
from pydantic import Field, ValidationError, model_validator

from pathasst.core import weights
from pathasst.core.errors import BadInput
from pathasst.core.records import NOTICE, ToolCall, ToolResult
from pathasst.tools import protocol
from pathasst.tools.protocol import Arguments, Registry, Tool, ToolCard


class BrightArguments(Arguments):
    """Title and limit, to see that a property called title survives in the schema."""

    title: str = Field(default="", description="a name")
    least: int = Field(ge=0, le=255, description="a limit")


class Bright(Tool[BrightArguments]):
    name = "bright"
    card = ToolCard(purpose="Counts bright pixels of any picture.", expects="any")
    arguments = BrightArguments

    def run(self, arguments: BrightArguments, image: np.ndarray) -> ToolResult:
        if image.shape[0] < 4:
            raise BadInput("too small")
        n = int((image.mean(-1) >= arguments.least).sum())
        return ToolResult(name=self.name, text=f"{n} bright", numbers={"n": n})


@pytest.fixture
def registry() -> Registry:
    made = Registry()
    made.add(Bright())
    return made


def test_a_good_call_gives_numbers_time_and_its_id(registry):
    result = registry.call(ToolCall(name="bright", arguments={"least": 10}, id="c1"), np.full((5, 5, 3), 20, np.uint8))
    assert (result.numbers, result.error, result.call_id, result.name) == ({"n": 25}, "", "c1", "bright")


def test_the_time_is_that_of_the_call(registry, monkeypatch):
    clock = iter([10.0, 12.5])
    monkeypatch.setattr(protocol.time, "perf_counter", lambda: next(clock))
    assert registry.call(ToolCall(name="bright", arguments={"least": 10}), np.zeros((5, 5, 3), np.uint8)).seconds == 2.5


@pytest.mark.parametrize(
    ("arguments", "image", "message"),
    [
        ({}, np.zeros((5, 5, 3), np.uint8), "least: Field required"),
        ({"least": "x", "most": 2}, np.zeros((5, 5, 3), np.uint8), "valid integer, unable to parse string as an integer; most: "),
        ({"least": 300}, np.zeros((5, 5, 3), np.uint8), "less than or equal to 255"),
        ({"least": 1, "most": 2}, np.zeros((5, 5, 3), np.uint8), "most"),
        ({"least": 1}, None, "needs a picture"),
        ({"least": 1}, np.zeros((5, 5), np.uint8), "H×W×3"),
        ({"least": 1}, np.zeros((5, 3), np.uint8), "not uint8 (5, 3)"),
        ({"least": 1}, np.zeros((5, 5, 4), np.uint8), "not uint8 (5, 5, 4)"),
        ({"least": 1}, b"bytes", "not bytes ()"),
        ({"least": 1}, np.zeros((5, 5, 3), np.float32), "uint8"),
        ({"least": 1}, np.zeros((2, 5, 3), np.uint8), "too small"),
    ],
)
def test_a_wrong_call_is_an_error_to_read_not_an_exception(registry, arguments, image, message):
    assert message in registry.call(ToolCall(name="bright", arguments=arguments), image).error


def test_an_unknown_tool_is_answered_with_the_known_ones(registry):
    registry.add(type("Dim", (Bright,), {"name": "dim"})())
    answer = registry.call(ToolCall(name="dark", id="c7"))
    assert (answer.name, answer.call_id) == ("dark", "c7")
    assert answer.error == "no tool is called 'dark'; the tools are: bright, dim"


def test_the_schema_keeps_a_property_called_title_and_drops_pydantics(registry):
    (spec,) = registry.offered()
    assert set(spec.parameters["properties"]) == {"title", "least"}
    assert "title" not in spec.parameters and "title" not in spec.parameters["properties"]["least"]
    assert spec.parameters["required"] == ["least"]
    assert spec.parameters["properties"]["least"]["type"] == "integer" and "description" not in spec.parameters


class Nested(Arguments):
    """Arguments within arguments, the inner with a title of its own."""

    inner: BrightArguments
    several: tuple[BrightArguments, ...] = ()
    pair: tuple[Annotated[int, Field(title="Left")], int] = (0, 0)

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        if self.pair[0] > self.pair[1]:
            raise ValueError("the pair falls")
        return self


def test_a_property_called_title_survives_at_any_depth():
    schema = type("Deep", (Bright,), {"arguments": Nested}).spec().parameters
    assert set(schema["$defs"]["BrightArguments"]["properties"]) == {"title", "least"}
    assert "title" not in schema["$defs"]["BrightArguments"]
    assert schema["properties"]["pair"]["prefixItems"] == [{"type": "integer"}] * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inner": {}}, "deep: inner.least: Field required"),
        ({"inner": {"least": 1}, "pair": [2, 1]}, "deep: arguments: Value error, the pair falls"),
    ],
)
def test_a_fault_is_named_by_its_place(arguments, message):
    deep = type("Deep", (Bright,), {"arguments": Nested, "name": "deep"})()
    assert deep(ToolCall(name="deep", arguments=arguments), np.zeros((5, 5, 3), np.uint8)).error == message


def test_a_tool_without_need_of_a_picture_gets_what_there_is(registry):
    class Echo(Bright):
        name = "echo"
        needs_image = False

        def run(self, arguments, image):
            return ToolResult(name="somebody else", text=str(image))

    registry.add(Echo())
    assert [s.needs_image for s in registry.offered()] == [True, False]
    said = [registry.call(ToolCall(name="echo", arguments={"least": 1}), image) for image in (None, "a picture")]
    assert [(s.text, s.error, s.name) for s in said] == [("None", "", "echo"), ("a picture", "", "echo")]


def test_arguments_and_cards_are_what_they_say():
    with pytest.raises(ValidationError, match="frozen"):
        BrightArguments(least=3).least = 4
    card = Bright.card
    assert (card.classes, card.scores, card.licence, card.validated, card.limits) == ((), "", "", False, "")  # unless it claims
    with pytest.raises(FrozenInstanceError):
        Bright.card.validated = True
    with pytest.raises(TypeError):
        ToolCard("for what", "any")
    assert NOTICE == "Research use only: not a medical device, not for diagnosis."


def test_a_result_says_which_weights_answered(registry):
    class Versioned(Bright):
        name = "versioned"
        weights = ("pathclip-embedded", "ki67-embedded")

        def run(self, arguments, image):
            found = super().run(arguments, image)
            return replace(found, version="a file of one's own") if arguments.least else found

    registry.add(Versioned())
    seen = [registry.call(ToolCall(name="versioned", arguments={"least": n}), np.zeros((5, 5, 3), np.uint8)) for n in (0, 1)]
    assert seen[0].version == f"{weights.version('pathclip-embedded')}, {weights.version('ki67-embedded')}"
    assert seen[1].version == "a file of one's own"


def test_a_tool_without_its_weights_is_not_offered(tmp_path, monkeypatch, registry):
    class Far(Bright):
        name = "far"
        weights = ("pathclip-embedded", "mobilesam")  # the first is shipped

    monkeypatch.setenv("PATHASST_CACHE", str(tmp_path))
    monkeypatch.delenv("PATHASST_MODELS", raising=False)
    registry.add(Far())
    assert [s.name for s in registry.offered()] == ["bright"]
    assert Far.missing() == ["mobilesam"]
    answer = registry.call(ToolCall(name="far"))
    assert "least: Field required" in answer.error and answer.version == ""
