"""Tools as a language model reads and writes them: the compact list in the system turn, and calls as `<tool_call>` lines.

Knows records alone. The list is short on purpose (one line a tool): on a CPU every prompt token is waited for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pathasst.core.records import ToolCall, ToolSpec

OPEN, CLOSE = "<tool_call>", "</tool_call>"
PURPOSE_CHARACTERS = 48
HOW = f'Call a tool by writing {OPEN}{{"name": ..., "arguments": {{...}}}}{CLOSE}.'


def list_tools(tools: Sequence[ToolSpec]) -> str:
    """The tools on offer, one line each: `name(required: type, optional?): purpose`. Empty when there is none."""
    if not tools:
        return ""
    lines = [f"{t.name}({_arguments(t.parameters)}): {_short(t.description)}" for t in tools]
    return "\n".join(["Tools:", *lines, HOW])


def write_calls(calls: Sequence[ToolCall]) -> str:
    """Calls as the model is taught to write them, one line each, arguments in the order in which datasets store them."""
    return "\n".join(f"{call_head(c.name)} {json.dumps(c.arguments, ensure_ascii=False, sort_keys=True)}}}{CLOSE}" for c in calls)


def call_head(name: str) -> str:
    """How a call of one tool begins, up to where its arguments follow (after a space, which tokenizers join to the brace)."""
    return f'{OPEN}{{"name": "{name}", "arguments":'


def call_written(text: str, name: str) -> ToolCall:
    """The first call in `text`; a call of `name` without arguments when it was not finished."""
    calls, _ = calls_of(text)
    return ToolCall(name=calls[0].name, arguments=calls[0].arguments) if calls else ToolCall(name=name)


def calls_of(text: str) -> tuple[list[ToolCall], str]:
    """The calls written in `text`, and the words around them. What opens as a call but is no valid JSON stays among the words."""
    calls: list[ToolCall] = []
    words = ""
    while OPEN in text:
        before, _, text = text.partition(OPEN)
        words += before
        match = _call(text)
        if match is None:
            words += OPEN
        else:
            call, text = match
            calls.append(ToolCall(name=call.name, arguments=call.arguments, id=f"call_{len(calls) + 1}"))
    return calls, (words + text).strip()


def _call(text: str) -> tuple[ToolCall, str] | None:
    """The call at the start of `text` and what follows it; a missing closing tag is forgiven, broken JSON is not."""
    stripped = text.lstrip()
    try:
        value, end = json.JSONDecoder().raw_decode(stripped)
    except json.JSONDecodeError:
        return None
    if not isinstance(value, dict) or not isinstance(value.get("name"), str) or not isinstance(value.get("arguments", {}), dict):
        return None
    return ToolCall(name=value["name"], arguments=value.get("arguments", {})), stripped[end:].removeprefix(CLOSE)


def _arguments(schema: Mapping[str, Any]) -> str:
    required = schema.get("required", [])
    properties = schema.get("properties", {})
    return ", ".join(f"{n}: {_type(p)}" if n in required else f"{n}?" for n, p in properties.items())


def _type(schema: Mapping[str, Any]) -> str:
    """A JSON schema in a few characters."""
    if "enum" in schema:
        return "|".join(map(str, schema["enum"]))
    for choice in schema.get("anyOf", []):
        if choice.get("type") != "null":
            return _type(choice)
    if schema.get("type") == "array":
        items = schema.get("prefixItems")
        return f"[{', '.join(map(_type, items))}]" if items else f"[{_type(schema.get('items', {}))}]"
    return {"number": "float", "integer": "int", "string": "str", "boolean": "bool"}.get(str(schema.get("type")), "any")


def _short(description: str) -> str:
    """The first sentence, cut at a word."""
    sentence = description.split(". ")[0].rstrip(".")
    if len(sentence) <= PURPOSE_CHARACTERS:
        return sentence
    return sentence[:PURPOSE_CHARACTERS].rsplit(" ", 1)[0].rstrip(",;(")
