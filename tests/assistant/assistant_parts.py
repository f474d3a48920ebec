"""Real small tools, a scripted brain, and what the OpenAI-compatible server of the tests says."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from pydantic import Field
from scipy import ndimage

from pathasst.assistant.grounding import Grounding
from pathasst.core.errors import BadInput
from pathasst.core.records import Annotation, Hit, Picture, ToolCall, ToolResult, ToolSpec, Turn
from pathasst.imaging.pictures import encode_png
from pathasst.tools.protocol import Arguments, Tool, ToolCard


class CountArguments(Arguments):
    threshold: int = Field(default=100, ge=1, le=255, description="Darker than this counts.")
    shade: Literal["grey", "red"] = "grey"
    box: tuple[float, float, float, float] | None = None


class CountDark(Tool[CountArguments]):
    """Counts dark blobs by connected components, and draws them."""

    name = "count_dark"
    card = ToolCard(purpose="Counts dark spots.", expects="any", validated=True)
    arguments = CountArguments

    def version(self) -> str:
        return "count_dark@1"

    def run(self, arguments: CountArguments, image: np.ndarray) -> ToolResult:
        if min(image.shape[:2]) < 8:
            raise BadInput("count_dark needs at least 8 px.")
        labels, count = ndimage.label(image.mean(-1) < arguments.threshold)
        centres = ndimage.center_of_mass(labels > 0, labels, range(1, count + 1))
        drawn = image.copy()
        drawn[labels > 0] = (255, 0, 0)
        return ToolResult(
            name=self.name,
            text=f"{count} dark spots.",
            numbers={"count": count},
            annotations=[Annotation(kind="point", label="spot", coordinates=[x + 0.5, y + 0.5]) for y, x in centres],
            pictures=[Picture(name="dark spots", image=encode_png(drawn))],
        )


class Nothing(Arguments):
    pass


class RedShare(Tool[Nothing]):
    """Share of pure red pixels: tells whether it ran on a drawn picture or on the original."""

    name = "red_share"
    card = ToolCard(purpose="Share of red.", expects="any", limits="A stated limit.")
    arguments = Nothing

    def run(self, arguments: Nothing, image: np.ndarray) -> ToolResult:
        share = float((image == (255, 0, 0)).all(-1).mean())
        return ToolResult(name=self.name, text=f"{100 * share:.1f} % red.", numbers={"share": share})


class Draw(Tool[Nothing]):
    """Makes a synthetic picture."""

    name = "draw"
    card = ToolCard(purpose="Draws.", expects="nothing", validated=True)
    arguments = Nothing
    needs_image = False

    def run(self, arguments: Nothing, image: Any) -> ToolResult:
        red = np.zeros((16, 16, 3), np.uint8)
        red[..., 0] = 255
        return ToolResult(
            name=self.name, text="Drawn.", pictures=[Picture(name="drawing", image=encode_png(red), synthetic=True)]
        )


class ScaledArguments(Arguments):
    um_per_px: float | None = Field(default=None, gt=0.02, lt=10.0)


class Scaled(Tool[ScaledArguments]):
    """Says at which scale it ran, and gives the picture back."""

    name = "scaled"
    card = ToolCard(purpose="Measures.", expects="any", validated=True)
    arguments = ScaledArguments

    def run(self, arguments: ScaledArguments, image: np.ndarray) -> ToolResult:
        scale = arguments.um_per_px
        copy = Picture(name="copy", image=encode_png(image))
        return ToolResult(name=self.name, text=f"Ran at {scale} µm/px.", numbers={"um_per_px": scale}, pictures=[copy])


class QueryArguments(Arguments):
    query: str = Field(min_length=2)


class Shelf(Tool[QueryArguments]):
    """A literature search over a list of hits."""

    name = "papers_search"
    card = ToolCard(purpose="Searches.", expects="text")
    arguments = QueryArguments
    needs_image = False

    def __init__(self, hits: Sequence[Hit]) -> None:
        self.hits = list(hits)

    def run(self, arguments: QueryArguments, image: Any) -> ToolResult:
        text = "\n".join(f"[PMID {h.pmid}] {h.title} ({h.year}). {h.passage}" for h in self.hits)
        return ToolResult(name=self.name, text=text or "No abstract matches.", hits=self.hits)


class Slow(Tool[Nothing]):
    """Waits until it is let go."""

    name = "slow"
    card = ToolCard(purpose="Waits.", expects="nothing")
    arguments = Nothing
    needs_image = False

    def __init__(self) -> None:
        self.go, self.runs = threading.Event(), 0

    def run(self, arguments: Nothing, image: Any) -> ToolResult:
        self.runs += 1
        self.go.wait(20)
        return ToolResult(name=self.name, text="done")


class Broken(Tool[Nothing]):
    """Fails in a way it did not foresee."""

    name = "broken"
    card = ToolCard(purpose="Fails.", expects="nothing")
    arguments = Nothing
    needs_image = False

    def run(self, arguments: Nothing, image: Any) -> ToolResult:
        raise ZeroDivisionError("division by zero")


HITS = [
    Hit(
        pmid="11111111",
        title="Ki67 in breast cancer",
        passage="A Ki67 index above 20 % was prognostic.",
        year=2015,
        journal="J Path",
    ),
    Hit(pmid="22222222", title="HER2 and trastuzumab", passage="Trastuzumab improved survival in 340 patients.", year=2018),
]

Say = Turn | Callable[[list[Turn], list[bytes], list[ToolSpec]], Turn]


def say(text: str = "", *calls: ToolCall) -> Turn:
    return Turn(role="assistant", content=text, tool_calls=list(calls))


def call(name: str, **arguments: Any) -> ToolCall:
    return ToolCall(name=name, arguments=arguments)


@dataclass
class ScriptedBrain:
    """Replies from a list; a function in it sees what the brain is given. Keeps everything it was given."""

    script: list[Say]
    name: str = "scripted@1"
    sees: bool = True
    grounding: Grounding = Grounding.MARKED  # its script is no knowledge; what is checked has tests of its own
    given: list[tuple[list[Turn], list[bytes], list[ToolSpec]]] = field(default_factory=list)

    def reply(self, turns: Sequence[Turn], images: Sequence[bytes], tools: Sequence[ToolSpec]) -> Turn:
        self.given.append((list(turns), list(images), list(tools)))
        said = self.script.pop(0)
        return said if isinstance(said, Turn) else said(*self.given[-1])


@dataclass
class ChatServer:
    """Requests it got, and how it answers: a function from the request's body to (status, body)."""

    url: str
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    answer: Callable[[dict[str, Any]], tuple[int, Any]] = lambda body: (200, message("Hello."))


def message(text: str | None = "", *calls: ToolCall, raw_arguments: str | None = None) -> dict[str, Any]:
    """A chat completion as OpenAI-compatible servers write it."""
    tool_calls = [
        {
            "id": c.id or f"call_{n}",
            "type": "function",
            "function": {"name": c.name, "arguments": json.dumps(c.arguments) if raw_arguments is None else raw_arguments},
        }
        for n, c in enumerate(calls)
    ]
    reply = {"role": "assistant", "content": text, **({"tool_calls": tool_calls} if tool_calls else {})}
    return {"object": "chat.completion", "choices": [{"index": 0, "message": reply, "finish_reason": "stop"}]}
