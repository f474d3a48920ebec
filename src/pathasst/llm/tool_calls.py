"""A tool call as programs and models write it, read into a `ToolCall`. Knows JSON and the usual keys; no tool and no schema."""

from __future__ import annotations

import json
import re
from typing import Any

from pathasst.core.records import ToolCall

NAMES = ("name", "tool", "tool_name", "function", "function_name", "action")
ARGUMENTS = ("arguments", "args", "parameters", "params", "input", "kwargs", "tool_input", "action_input", "tool_arguments")


def call_of(value: Any) -> ToolCall | None:
    """The call that an object writes, or None where it has no name, or arguments that are no object.

    `{"function": {"name": …, "arguments": …}, "id": …}` (OpenAI), `{"name": …, "arguments": …}` (Hermes, Qwen) and the
    same under other keys (`NAMES`, `ARGUMENTS`); arguments are an object, its JSON text, or that text as JSON once more. Without
    arguments: none.
    """
    if not isinstance(value, dict):
        return None
    inner = value.get("function")
    function: dict[str, Any] = inner if isinstance(inner, dict) else value
    name = next((n for key in NAMES if isinstance(n := function.get(key), str) and n), None)
    arguments: Any = next((a for key in ARGUMENTS if (a := function.get(key)) is not None), {})
    if isinstance(arguments, str) and arguments.lstrip().startswith('"'):
        arguments = json_or_none(arguments)
    if isinstance(arguments, str):
        arguments = loads_leniently(arguments) if arguments.strip() else {}
    if name is None or not isinstance(arguments, dict):
        return None
    return ToolCall(name=name, arguments=arguments, id=str(value.get("id") or ""))


def json_or_none(text: str) -> Any:
    """The value a JSON text holds, or None."""
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return None


def loads_leniently(text: str) -> Any:
    """JSON with the slips small models make (single quotes, trailing commas, Python literals, missing brackets), or None.

    What breaks off inside a text or a number is not guessed: `70` may have been going to be `700`.
    """
    start = text.find("{")
    if start < 0:
        return None
    text = text[start:].strip()
    for attempt in (text, _tidied(text), _closed(_tidied(text))):
        try:
            return json.JSONDecoder().raw_decode(attempt)[0]
        except (json.JSONDecodeError, RecursionError):
            continue
    return None


def _tidied(text: str) -> str:
    text = re.sub(r"\bNone\b", "null", re.sub(r"\bTrue\b", "true", re.sub(r"\bFalse\b", "false", text)))
    if '"' not in text:
        text = text.replace("'", '"')
    return re.sub(r",\s*([}\]])", r"\1", text)


def _closed(text: str) -> str:
    """The text with open lists and objects closed in the right order, if it ends where a value is complete."""
    stack: list[str] = []
    quoted = escaped = False
    for letter in text:
        if quoted:
            quoted = escaped or letter != '"'
            escaped = letter == "\\" and not escaped
        elif letter == '"':
            quoted = True
        elif letter in "{[":
            stack.append("}" if letter == "{" else "]")
        elif letter in "}]" and stack:
            stack.pop()
    complete = not quoted and text.rstrip()[-1:] in ("}", "]", '"')
    return text + "".join(reversed(stack)) if complete else text
