"""What a brain is, and the settings that choose one. Knows no model.

A brain reads a conversation and gives the assistant's next turn: words, tool calls, or both. It runs no tool and checks nothing.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self, runtime_checkable

from pydantic import model_validator

from pathasst.assistant.grounding import Grounding
from pathasst.core.records import ImageBytes, ToolSpec, Turn
from pathasst.core.settings import Field, Settings, Texts

EMBEDDED, ROUTER = "pathasst-embedded", "router-embedded"
"""Our own model, too small to choose its tools itself, and what chooses them for it."""


@runtime_checkable
class Brain(Protocol):
    """Decides what to say and which tools to call. Must be safe to call from another thread than the one that made it."""

    name: str  # model and version, for the provenance of the answer
    sees: bool  # whether it reads the pictures itself; a brain that does not gets the tool `look`

    def reply(self, turns: Sequence[Turn], images: Sequence[ImageBytes], tools: Sequence[ToolSpec]) -> Turn:
        """The assistant's next turn.

        `turns`: the conversation, beginning with the person; each `<image>` mark in it stands for the next of `images` (encoded
        pictures; none when the brain does not see). A tool turn answers the calls of the assistant turn before it, in order.
        Raises Unreachable, MissingWeights or BadInput.
        """
        ...


@runtime_checkable
class Streaming(Protocol):
    """A brain that also gives its words as it makes them.

    Further things a brain may offer, each used where it is there: `reply_many(requests) -> list[Turn]` (several replies generated
    together; a request is `(turns, images, tools)`), `parallel` (how many threads may ask it at once, 1 if absent) and
    `count_tokens(text) -> int`, `route(question, tools, pictures, turns) -> Route` (which tools a question asks for),
    `grounding` (see `Grounding`; CHECKED if absent), and `with_options(options) -> Brain` (the brain as one program wants its
    replies; raises BadSettings for what it cannot do; see `ReplyOptions`).
    """

    def stream(
        self, turns: Sequence[Turn], images: Sequence[ImageBytes], tools: Sequence[ToolSpec]
    ) -> Generator[str | Turn, None, None]:
        """Pieces of text as they are made, without the text of tool calls, and the whole Turn last."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyOptions:
    """How a program wants its replies written. What is None, or empty, is left to the brain's own settings."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    json_schema: Mapping[str, Any] | None = None  # the reply is JSON of this schema; an empty one: any JSON object
    tool: str | None = None  # the reply calls this tool; empty: one of those offered

    def body(self) -> dict[str, Any]:
        """The options as an OpenAI-compatible server takes them."""
        values = {"max_tokens": self.max_tokens, "temperature": self.temperature, "top_p": self.top_p, "seed": self.seed}
        body: dict[str, Any] = {name: value for name, value in values.items() if value is not None}
        if self.stop:
            body["stop"] = list(self.stop)
        if self.json_schema is not None:
            named = {"name": "reply", "schema": dict(self.json_schema), "strict": True}
            form = {"type": "json_schema", "json_schema": named} if self.json_schema else {"type": "json_object"}
            body["response_format"] = form
        if self.tool is not None:
            body["tool_choice"] = {"type": "function", "function": {"name": self.tool}} if self.tool else "required"
        return body


class BrainSettings(Settings):
    """Which brain, as a recipe's `assistant.yaml` holds it under `brain`."""

    kind: Literal["pathasst", "openai", "llamacpp"] = Field(
        default="pathasst", description="Our own model, any OpenAI-compatible server, or a GGUF in this process."
    )
    model: str = Field(default=EMBEDDED, description="Id in the registry of weights, a folder, or the server's model name.")
    router: str | None = Field(
        default=None,
        description="pathasst: id or folder of the router. Empty: the model itself; None: see `chooses_tools`.",
    )
    url: str = Field(default="", description="openai: the server's base, ending in /v1.")
    sees: bool = Field(default=True, description="openai: whether the model takes pictures.")
    key_env: str = Field(default="PATHASST_API_KEY", description="openai: the environment variable that holds the key.")
    max_tokens: int = Field(default=512, ge=1, description="Longest reply, in tokens.")
    temperature: float = 0.0
    stop: Texts = Field(
        default=(), description="openai: ends a reply besides the server's own end; a PathAsst of the paper's template: \"###\"."
    )
    seconds: float = Field(default=120.0, gt=0, description="openai, llamacpp: time-out of one reply.")
    grounded: bool | Literal["auto"] = Field(
        default="auto",
        description="true: composed from sources; false: marked; auto: composed of the embedded model, checked of others.",
    )
    parallel: int = Field(default=1, ge=1, description="llamacpp: conversations answered at once, each with memory of its own.")

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.kind == "openai" and not self.url.startswith(("http://", "https://")):
            raise ValueError("an OpenAI-compatible brain needs a url such as http://127.0.0.1:8000/v1")
        return self

    @property
    def grounding(self) -> Grounding:
        """How far the brain's own words are trusted."""
        if self.grounded == "auto":
            return Grounding.COMPOSED if self.kind == "pathasst" and self.model == EMBEDDED else Grounding.CHECKED
        return Grounding.COMPOSED if self.grounded else Grounding.MARKED

    @property
    def chooses_tools(self) -> str:
        """The router that chooses the tools, or empty where the model itself does: every model but the embedded one, unless the
        settings name a router. A model's own choice is what is measured."""
        if self.router is not None:
            return self.router
        return ROUTER if self.model == EMBEDDED else ""
