"""A GGUF text model in this process, through llama.cpp, as a brain (recipe `embedded-plus`).

While decoding it is held to a JSON schema made from the tools on offer: what it says is either an answer, or calls of these tools
with arguments of the right names and types. It does not see; `look` sees for it. `llm` starts the engine and does the HTTP, on a
loopback port of this process.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pathasst.assistant.brain import BrainSettings
from pathasst.assistant.brains.messages import SYSTEM
from pathasst.assistant.repair import UNREADABLE, loads_leniently
from pathasst.errors import BadInput, Unreachable
from pathasst.llm.settings import LLMSettings
from pathasst.llm.transport import Refused, Transport
from pathasst.records import ImageBytes, ToolCall, ToolSpec, Turn

CONTEXT = 8192  # tokens of one conversation
CALLS_PER_TURN = 4
_SHORTER = (6000, 1500, 500)  # characters of one tool result, tried in turn when a conversation does not fit
_NO_GRAMMAR = frozenset(
    {"title", "description", "default", "minLength", "maxLength", "minItems", "maxItems", "minimum", "maximum"}
    | {"exclusiveMinimum", "exclusiveMaximum"}
)  # words of a schema that only make the grammar large: bounds are checked by the tool itself
HOW = """Reply with JSON and nothing else. To use tools: {"calls": [{"name": "...", "arguments": {...}}]}. \
To answer the person: {"answer": "..."}."""


@dataclass(slots=True)
class LlamaCppBrain:
    """One model in this process."""

    name: str
    transport: Transport
    max_tokens: int
    temperature: float
    engine: Any  # keeps the model alive
    sees: bool = False

    @classmethod
    def open(cls, settings: BrainSettings, threads: int = 0) -> LlamaCppBrain:
        """Start the engine (`threads`: see `llm.local.start`).

        Raises MissingPackage without llama.cpp, MissingWeights with the command that fetches the model.
        """
        from pathasst import weights
        from pathasst.llm.local import start

        engine, url = start(settings.model, context=CONTEXT, threads=threads)
        llm = LLMSettings(base_url=url, model=settings.model, key_env="", timeout=settings.seconds, attempts=1)
        name = settings.model if settings.model.endswith(".gguf") else weights.version(settings.model)
        return cls(name, Transport(llm, url), settings.max_tokens, settings.temperature, engine)

    def reply(self, turns: Sequence[Turn], images: Sequence[ImageBytes], tools: Sequence[ToolSpec]) -> Turn:
        """The assistant's next turn. Raises BadInput when the last question alone does not fit, Unreachable when it fails."""
        starts = [n for n, turn in enumerate(turns) if turn.role == "user"]
        for first in starts:  # the oldest questions go first, then ever more of the tools' results
            for longest in _SHORTER if first == starts[-1] else _SHORTER[:1]:
                try:
                    return self._ask(turns[first:], tools, longest)
                except Refused as error:
                    if error.status not in (400, 413):
                        raise
                    reason = error
        raise BadInput(f"the question does not fit into the {CONTEXT} tokens that {self.name} reads: {reason}")

    def _ask(self, turns: Sequence[Turn], tools: Sequence[ToolSpec], longest: int) -> Turn:
        body = {
            "messages": messages(turns, tools, longest),
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "response_format": {"type": "json_schema", "json_schema": {"name": "reply", "schema": reply_schema(tools)}},
        }
        answer, _ = self.transport.post(body)
        try:
            return to_turn(str(answer["choices"][0]["message"]["content"]))
        except (KeyError, IndexError, TypeError) as error:
            raise Unreachable(f"{self.name} gave no chat completion: {str(answer)[:200]}") from error


def reply_schema(tools: Sequence[ToolSpec]) -> dict[str, Any]:
    """JSON schema of a reply: `{"answer": …}`, or `{"calls": [{"name", "arguments"} …]}` of the tools on offer."""
    answer = _object({"answer": {"type": "string"}})
    if not tools:
        return answer
    calls = [_object({"name": {"const": t.name}, "arguments": for_grammar(t.parameters)}) for t in tools]
    several = {"type": "array", "items": {"anyOf": calls}, "minItems": 1, "maxItems": CALLS_PER_TURN}
    return {"anyOf": [_object({"calls": several}), answer]}


def for_grammar(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A tool's schema with names and types alone, closed against other names."""
    kept: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "properties":
            kept[key] = {name: for_grammar(inner) for name, inner in value.items()}
        elif key in _NO_GRAMMAR:
            continue
        elif isinstance(value, dict):
            kept[key] = for_grammar(value)
        elif isinstance(value, list) and key != "enum":
            kept[key] = [for_grammar(v) if isinstance(v, dict) else v for v in value]
        else:
            kept[key] = value
    if kept.get("type") == "object":
        kept["additionalProperties"] = False
    return kept


def messages(turns: Sequence[Turn], tools: Sequence[ToolSpec], longest: int) -> list[dict[str, str]]:
    """The conversation as text messages; calls and answers in the form they are asked for, results as the person's data."""
    listed = "\n".join(f"- {t.name}({_arguments(t)}): {t.description}" for t in tools)
    system = f"{SYSTEM}\n{HOW}" + (f"\nTools:\n{listed}" if tools else "\nNo tools are left: answer now.")
    said: list[dict[str, str]] = [{"role": "system", "content": system}]
    for turn in turns:
        if turn.role == "assistant":
            calls = [{"name": c.name, "arguments": c.arguments} for c in turn.tool_calls]
            content = json.dumps({"calls": calls} if calls else {"answer": turn.content}, ensure_ascii=False)
            said.append({"role": "assistant", "content": content})
            continue
        text = turn.content
        if turn.role == "tool":
            text = text if len(text) <= longest else text[:longest].rsplit(" ", 1)[0] + " … (cut)"
            text = f'<tool_output tool="{turn.tool}">\n{text}\n</tool_output>'
        if said[-1]["role"] == "user":  # templates want the roles to take turns
            said[-1]["content"] += f"\n{text}"
        else:
            said.append({"role": "user", "content": text})
    return said


def to_turn(text: str) -> Turn:
    """The model's JSON as a turn. An answer cut off at the token limit is read as far as it goes; a call so cut is unreadable."""
    value = loads_leniently(text)
    if not isinstance(value, dict):
        if answer := re.match(r'\s*\{\s*"answer"\s*:\s*("(?:[^"\\]|\\.)*)', text, re.DOTALL):
            return Turn(role="assistant", content=str(loads_leniently(f'{{"answer": {answer[1]}"}}')["answer"]) + " …")
        if text.lstrip().startswith("{"):
            return Turn(role="assistant", tool_calls=[ToolCall(name=UNREADABLE)])
        return Turn(role="assistant", content=text)
    calls = [
        ToolCall(name=c["name"], arguments=c["arguments"])
        if isinstance(c, dict) and isinstance(c.get("name"), str) and isinstance(c.get("arguments"), dict)
        else ToolCall(name=UNREADABLE)
        for c in value.get("calls") or []
    ]
    return Turn(role="assistant", content=str(value.get("answer") or ""), tool_calls=calls)


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _arguments(tool: ToolSpec) -> str:
    required = tool.parameters.get("required", [])
    return ", ".join(name if name in required else f"{name}?" for name in tool.parameters.get("properties", {}))
