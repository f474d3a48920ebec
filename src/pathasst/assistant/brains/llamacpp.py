"""A GGUF text model in this process, through llama.cpp, as a brain (recipe `embedded-plus`).

A small model that must choose among tools, fill in their arguments and answer in one piece of JSON does each of them badly. Here
it is asked one thing at a time, each held to a JSON schema while decoding: first which tools are needed (a list of names), then
each tool's arguments (the tool's own schema); only when it names none does it answer, in plain words, which stream. The steps
share their beginning, which llama.cpp keeps, so the further ones cost little. It does not see; `look` sees for it.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pathasst.assistant.brains.dialogue import ANSWER_NOW, arguments_asked, dialogue
from pathasst.assistant.brains.settings import BrainSettings, ReplyOptions
from pathasst.assistant.grounding import Grounding
from pathasst.assistant.images import ARGUMENT
from pathasst.assistant.repair import UNREADABLE
from pathasst.core.errors import BadInput, Unreachable
from pathasst.core.records import ImageBytes, ToolCall, ToolSpec, Turn
from pathasst.llm.settings import LLMSettings
from pathasst.llm.tool_calls import loads_leniently
from pathasst.llm.transport import Refused, Transport

CONTEXT = 8192  # tokens of one conversation
CALLS_PER_TURN = 4
CHOICE_TOKENS, ARGUMENT_TOKENS = 80, 250
_SHORTER = (6000, 1500, 500)  # characters of one tool result, tried in turn when a conversation does not fit
_NO_GRAMMAR = frozenset(
    {"title", "description", "default", "minLength", "maxLength", "minItems", "maxItems", "minimum", "maximum"}
    | {"exclusiveMinimum", "exclusiveMaximum"}
)  # words of a schema that only make the grammar large: bounds are checked by the tool itself

Messages = list[dict[str, str]]


@dataclass(slots=True)
class LlamaCppBrain:
    """One model in this process, which answers `parallel` conversations at once."""

    name: str
    transport: Transport
    max_tokens: int
    temperature: float
    engine: Any  # keeps the model alive
    parallel: int = 1
    sees: bool = False
    grounding: Grounding = Grounding.CHECKED
    options: ReplyOptions = field(default_factory=ReplyOptions)

    @classmethod
    def open(cls, settings: BrainSettings, threads: int = 0) -> LlamaCppBrain:
        """Start the engine (`threads`: see `llm.local.start`).

        Raises MissingPackage without llama.cpp, MissingWeights with the command that fetches the model.
        """
        from pathasst.core import weights
        from pathasst.llm.local import start

        engine, url = start(settings.model, context=CONTEXT, parallel=settings.parallel, threads=threads)
        llm = LLMSettings(base_url=url, model=settings.model, key_env="", timeout=settings.seconds, attempts=1)
        name = settings.model if settings.model.endswith(".gguf") else weights.version(settings.model)
        transport = Transport(llm, url)
        return cls(
            name, transport, settings.max_tokens, settings.temperature, engine, settings.parallel, grounding=settings.grounding
        )

    def with_options(self, options: ReplyOptions) -> LlamaCppBrain:
        """The same model with a program's wishes."""
        return replace(self, options=options)

    def reply(self, turns: Sequence[Turn], images: Sequence[ImageBytes], tools: Sequence[ToolSpec]) -> Turn:
        """The assistant's next turn. Raises BadInput when the last question alone does not fit, Unreachable when it fails."""
        return next(piece for piece in self.stream(turns, images, tools) if isinstance(piece, Turn))

    def stream(
        self, turns: Sequence[Turn], images: Sequence[ImageBytes], tools: Sequence[ToolSpec]
    ) -> Generator[str | Turn, None, None]:
        """As `reply`, with an answer's words as they are made, and the Turn last."""
        starts = [n for n, turn in enumerate(turns) if turn.role == "user"]
        for first in starts:  # the oldest questions go first, then ever more of the tools' results
            for longest in _SHORTER if first == starts[-1] else _SHORTER[:1]:
                messages = dialogue(turns[first:], tools, longest)
                try:
                    if selected := self._select_tools(messages, turns, tools):
                        yield Turn(role="assistant", tool_calls=self._calls(messages, selected))
                    else:
                        yield from self._answer(messages, offered=bool(tools))
                except Refused as error:  # before any word was said
                    if error.status not in (400, 413):
                        raise
                    reason = error
                else:
                    return
        raise BadInput(f"the question does not fit into the {CONTEXT} tokens that {self.name} reads: {reason}")

    def _select_tools(self, messages: Messages, turns: Sequence[Turn], tools: Sequence[ToolSpec]) -> list[ToolSpec]:
        """The tools that the model says it needs now; those that this question has had already are not offered again."""
        had = _had(turns)
        left = {tool.name: tool for tool in tools if tool.name not in had}
        if self.options.tool:
            return [tool for tool in tools if tool.name == self.options.tool]
        if not left:
            return []
        text = self._write(messages, choice_schema(list(left), least=self.options.tool is not None), CHOICE_TOKENS)
        value = loads_leniently(text)
        names = value.get("tools", []) if isinstance(value, dict) else []
        return [left[name] for name in dict.fromkeys(names) if name in left][:CALLS_PER_TURN]

    def _calls(self, messages: Messages, selected: Sequence[ToolSpec]) -> list[ToolCall]:
        """Each chosen tool's call, with arguments that have the right names and types."""
        messages = [*messages, {"role": "assistant", "content": json.dumps({"tools": [tool.name for tool in selected]})}]
        calls = []
        for tool in selected:
            arguments: Any = {}
            if tool.parameters.get("properties"):
                request = {"role": "user", "content": arguments_asked(tool)}
                arguments = loads_leniently(self._write([*messages, request], for_grammar(tool.parameters), ARGUMENT_TOKENS))
            calls.append(
                ToolCall(name=tool.name, arguments=arguments) if isinstance(arguments, dict) else ToolCall(name=UNREADABLE)
            )
        return calls

    def _answer(self, messages: Messages, *, offered: bool) -> Generator[str | Turn, None, None]:
        """The answer in plain words, as they are made."""
        if offered:
            messages = [*messages, {"role": "assistant", "content": '{"tools": []}'}, {"role": "user", "content": ANSWER_NOW}]
        text = ""
        most = min(self.options.max_tokens or self.max_tokens, self.max_tokens)
        given_options = {n: v for n, v in self.options.body().items() if n in ("stop", "response_format")}
        for piece in self.transport.stream(self._body(messages, most) | given_options):
            if isinstance(piece, str):
                text += piece
                yield piece
        yield Turn(role="assistant", content=text.strip())

    def _write(self, messages: Messages, schema: Mapping[str, Any], most: int) -> str:
        form = {"type": "json_schema", "json_schema": {"name": "reply", "schema": schema}}
        answer, _ = self.transport.post({**self._body(messages, most), "response_format": form})
        try:
            return str(answer["choices"][0]["message"]["content"])
        except (KeyError, IndexError, TypeError) as error:
            raise Unreachable(f"{self.name} gave no chat completion: {str(answer)[:200]}") from error

    def _body(self, messages: Messages, most: int) -> dict[str, Any]:
        sampled = {n: v for n, v in self.options.body().items() if n in ("temperature", "top_p", "seed")}
        return {"messages": messages, "max_tokens": most, "temperature": self.temperature, "cache_prompt": True, **sampled}


def choice_schema(names: Sequence[str], *, least: bool = False) -> dict[str, Any]:
    """JSON schema of a choice: `{"tools": [names …]}`, with none if none is needed, unless at `least` one is wanted."""
    some = {"type": "array", "items": {"enum": list(names)}, "minItems": int(least), "maxItems": CALLS_PER_TURN}
    return {"type": "object", "properties": {"tools": some}, "required": ["tools"], "additionalProperties": False}


def for_grammar(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A tool's schema with names and types alone, closed against other names."""
    schema_part: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "properties":
            schema_part[key] = {name: for_grammar(inner) for name, inner in value.items()}
        elif key in _NO_GRAMMAR:
            continue
        elif isinstance(value, dict):
            schema_part[key] = for_grammar(value)
        elif isinstance(value, list) and key not in ("enum", "required"):
            schema_part[key] = [for_grammar(v) if isinstance(v, dict) else v for v in value]
        else:
            schema_part[key] = value
    if schema_part.get("type") == "object":
        schema_part["additionalProperties"] = False
    return schema_part


def _had(turns: Sequence[Turn]) -> set[str]:
    """Names of the tools called since the person's last words; one that works on pictures may be wanted for another one."""
    had: set[str] = set()
    for turn in turns:
        if turn.role == "user":
            had.clear()
        had.update(call.name for call in turn.tool_calls if ARGUMENT not in call.arguments)
    return had
