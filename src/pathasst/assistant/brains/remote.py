"""A brain behind any OpenAI-compatible server: vLLM, llama.cpp, a hosted one; with or without vision. `llm` does the HTTP."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pathasst.assistant.brains.messages import to_messages, to_tools, to_turn
from pathasst.assistant.brains.settings import BrainSettings, ReplyOptions
from pathasst.assistant.grounding import Grounding
from pathasst.core.errors import Unreachable
from pathasst.core.records import ImageBytes, ToolSpec, Turn
from pathasst.llm.settings import LLMSettings
from pathasst.llm.thoughts import ends_alone
from pathasst.llm.transport import AGAIN, Endless, Refused, Transport

ATTEMPTS = 3
NO_STREAM = frozenset({400, 404, 405, 415, 422})  # by which servers refuse a stream, or tools in one
LONGEST_WAIT = 10.0  # seconds between two tries: somebody is waiting
CALL_SIGNS = ("{", "[", "<", "`")
"""How a tool call begins that a server leaves in the text: such a text is not shown while it comes."""


@dataclass(slots=True)
class Habit:
    """Whether a model's thoughts begin in its prompt, so that its text begins with them unmarked; None until a reply says so."""

    thinks_first: bool | None = None

    def learn(self, text: str) -> None:
        """From the whole text of one reply."""
        self.thinks_first = ends_alone(text)


@dataclass(slots=True)
class RemoteBrain:
    """One model of one server. Nothing is cached: the same question may be asked of another picture."""

    settings: BrainSettings
    transport: Transport
    options: ReplyOptions = field(default_factory=ReplyOptions)
    habit: Habit = field(default_factory=Habit)
    name: str = field(init=False)
    sees: bool = field(init=False)
    grounding: Grounding = field(init=False)
    parallel: int = 16  # the server batches by itself

    def __post_init__(self) -> None:
        self.name = f"{self.settings.model} at {self.settings.url}"
        self.sees = self.settings.sees
        self.grounding = self.settings.grounding

    @classmethod
    def open(cls, settings: BrainSettings) -> RemoteBrain:
        """Nothing is sent yet. The key, if the server needs one, comes from the environment variable the settings name."""
        llm = LLMSettings(
            base_url=settings.url,
            model=settings.model,
            key_env=settings.key_env,
            timeout=settings.seconds,
            attempts=ATTEMPTS,
            backoff=0.25,
            max_wait=LONGEST_WAIT,
        )
        return cls(settings, Transport(llm, settings.url))

    def with_options(self, options: ReplyOptions) -> RemoteBrain:
        """The same model with a program's wishes, which its server keeps or refuses."""
        return replace(self, options=options)

    def reply(self, turns: Sequence[Turn], images: Sequence[ImageBytes], tools: Sequence[ToolSpec]) -> Turn:
        """The assistant's next turn. Raises Unreachable, with the server's reason, after the allowed tries."""
        answer, _ = self.transport.post(self._body(turns, images, tools))
        try:
            return to_turn(answer["choices"][0]["message"])
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise Unreachable(f"{self.name} answered in no form of the chat API: {str(answer)[:200]}") from error

    def stream(
        self, turns: Sequence[Turn], images: Sequence[ImageBytes], tools: Sequence[ToolSpec]
    ) -> Generator[str | Turn, None, None]:
        """The words as they come, then the turn. Raises as `reply`, which is asked where the server broke off before a word.

        Of a model's first reply, and of one whose thoughts begin in its prompt, nothing is shown before the whole text says which
        part is thought.
        """
        text, streaming, is_known = "", False, self.habit.thinks_first is False
        try:
            for piece in self.transport.stream(self._body(turns, images, tools)):
                if isinstance(piece, Mapping):
                    yield from self._ended(piece, streaming)
                    return
                text += piece
                if streaming:
                    yield piece
                elif is_known and _may_be_shown(text):
                    streaming = True
                    yield text
        except Refused as error:
            if streaming or error.status not in NO_STREAM | AGAIN:
                raise
        except Unreachable as error:
            if streaming or isinstance(error, Endless):
                raise
        yield self.reply(turns, images, tools)

    def _ended(self, message: Mapping[str, Any], streaming: bool) -> Iterator[str | Turn]:
        """The words of a whole reply, where none were shown yet, and its turn."""
        self.habit.learn(str(message["content"]))
        turn = to_turn(message)
        if not streaming and not turn.tool_calls and _may_be_shown(turn.content):
            yield turn.content
        yield turn

    def _body(self, turns: Sequence[Turn], images: Sequence[ImageBytes], tools: Sequence[ToolSpec]) -> dict[str, Any]:
        """The request, without `stream`."""
        body: dict[str, Any] = {
            "model": self.settings.model,
            "messages": to_messages(turns, images, sees=self.sees),
            "max_tokens": self.settings.max_tokens,
            "temperature": self.settings.temperature,
        }
        if self.settings.stop:
            body["stop"] = list(self.settings.stop)
        options = self.options.body()
        if tools:
            body["tools"] = to_tools(tools)
        else:
            options.pop("tool_choice", None)
        if "max_tokens" in options:
            options["max_tokens"] = min(options["max_tokens"], self.settings.max_tokens)
        if "stop" in options:
            options["stop"] = [*self.settings.stop, *options["stop"]]
        return body | options


def _may_be_shown(text: str) -> bool:
    return bool(text.strip()) and not text.lstrip().startswith(CALL_SIGNS)
