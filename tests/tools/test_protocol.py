"""The protocol: arguments checked, errors readable, pictures of the right kind, times and provenance in the result."""

import numpy as np
import pytest
from pydantic import Field

from pathasst.errors import BadInput
from pathasst.records import ToolCall, ToolResult
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
    assert result.seconds > 0


@pytest.mark.parametrize(
    ("arguments", "image", "message"),
    [
        ({}, np.zeros((5, 5, 3), np.uint8), "least: Field required"),
        ({"least": 300}, np.zeros((5, 5, 3), np.uint8), "less than or equal to 255"),
        ({"least": 1, "most": 2}, np.zeros((5, 5, 3), np.uint8), "most"),
        ({"least": 1}, None, "needs a picture"),
        ({"least": 1}, np.zeros((5, 5), np.uint8), "H×W×3"),
        ({"least": 1}, np.zeros((5, 5, 3), np.float32), "uint8"),
        ({"least": 1}, np.zeros((2, 5, 3), np.uint8), "too small"),
    ],
)
def test_a_wrong_call_is_an_error_to_read_not_an_exception(registry, arguments, image, message):
    assert message in registry.call(ToolCall(name="bright", arguments=arguments), image).error


def test_an_unknown_tool_is_answered_with_the_known_ones(registry):
    assert "bright" in registry.call(ToolCall(name="dark")).error


def test_the_schema_keeps_a_property_called_title_and_drops_pydantics(registry):
    (spec,) = registry.offered()
    assert set(spec.parameters["properties"]) == {"title", "least"}
    assert "title" not in spec.parameters and "title" not in spec.parameters["properties"]["least"]
    assert spec.parameters["required"] == ["least"]


def test_a_tool_without_its_weights_is_not_offered(tmp_path, monkeypatch, registry):
    class Far(Bright):
        name = "far"
        weights = ("mobilesam",)

    monkeypatch.setenv("PATHASST_CACHE", str(tmp_path))
    monkeypatch.delenv("PATHASST_MODELS", raising=False)
    registry.add(Far())
    assert [s.name for s in registry.offered()] == ["bright"]
    assert Far.missing() == ["mobilesam"]
