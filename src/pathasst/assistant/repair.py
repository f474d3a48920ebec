"""One honest repair of a tool call that does not fit its tool. Knows schemas and pydantic; no brain and no model.

A call is repaired once, by rules that change how a thing is written, and leave out what the tool does not take; each change is
noted for the answer. What still does not fit is reported to the brain with the reason, and the brain may try again within its
limits.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

from pydantic import BaseModel, ValidationError

from pathasst.core.records import ToolCall
from pathasst.llm.tool_calls import ARGUMENTS, call_of, json_or_none, loads_leniently

UNREADABLE = "unreadable_call"
"""The name of a call that could not be read at all."""


def tool_name(name: str, names: Iterable[str]) -> str:
    """The known tool that `name` spells in other letters (`functions.Ki67-Cells` → `ki67_cells`), or `name` itself."""
    names = list(names)
    if name in names:
        return name
    plain = _spelled(name.rsplit(".", 1)[-1].rsplit("/", 1)[-1])
    matches = [k for k in names if _spelled(k) == plain]
    return matches[0] if len(matches) == 1 else name


def arguments(values: Mapping[str, Any], model: type[BaseModel]) -> tuple[dict[str, Any], list[str]]:
    """Arguments that `model` accepts where the rules can make them so, and what was changed. Valid ones come back untouched."""
    if not _faults(values, model):
        return dict(values), []
    notes: list[str] = []
    fixed = _unwrapped(dict(values), model, notes)
    fixed = _renamed(fixed, model, notes)
    properties = model.model_json_schema().get("properties", {})
    for name in list(fixed):
        if name in _faults(fixed, model):
            field = model.model_fields.get(name)
            _refit(fixed, name, properties.get(name, {}), field is not None and field.is_required(), notes)
    return fixed, notes


def calls_in(text: str, names: Iterable[str]) -> tuple[list[ToolCall], str, bool]:
    """Calls that a model wrote in its words, the other words, and whether a call was marked that cannot be read.

    A call stands in lines of its own, beside marks of any kind (tags, fences, special tokens): an object with the name of a known
    tool, or such a name before its arguments, as an object, in tags or in brackets. A call in the middle of a sentence is spoken
    of, not made. Only the brain's own words are ever given to this; a call inside tool output is never looked for.
    """
    names = list(names)
    marks = list(_MARK.finditer(text))
    found: list[tuple[int, int, list[ToolCall]]] = []
    for start, end, calls in _written(text, names):
        at = found[-1][1] if found else 0
        if marks or (_BEFORE.search(text[at:start]) and _AFTER.match(text, end)):
            found.append((start, end, calls))
    if not found:
        return [], (text[: marks[0].start()].strip() if marks else text), bool(marks)
    begin = min(found[0][0], *(m.start() for m in marks[:1]), len(text))
    end = max(found[-1][1], *(m.end() for m in marks[-1:]), 0)
    before, after = _BEFORE.sub("", text[:begin]), _CLOSERS.sub("", text[end:], count=1)
    return [call for *_, calls in found for call in calls], "\n".join(filter(None, [before.strip(), after.strip()])), bool(marks)


# How the templates of models mark a call: in special tokens, or in tags that begin a line.
_MARK = re.compile(
    r"</?(?:tool_?calls?|tool_use)>|<[|｜]/?(?:tool_?calls?|python_tag|call|tool▁[^|｜<>]*)[|｜]>|\[/?TOOL_CALLS?\]"
    r"|<\|channel\|>commentary to=|^[ \t]*<(?:function_?calls?|invoke|tool_code|function)(?:[= ][^<>\n]*)?>",
    re.IGNORECASE | re.MULTILINE,
)
_BEFORE = re.compile(
    r"(?:^|\n)[ \t]*(?:(?:Action|Tool|Function|Calling|Call):?[ \t]*)?(?:```\w*\s*)?(?:\[\s*)?\Z|\A\s*,\s*\Z", re.IGNORECASE
)
_AFTER = re.compile(r"(?!\s*\]?\s*```[ \t]*\S)\s*\]?\s*(?:```)?[ \t]*(?:\n|\Z)|\s*,\s*(?=[{A-Za-z])")
_CLOSERS = re.compile(r"\A[\s\]},;)]*(?:</\w+>\s*)*(?:```)?")
# What stands between a tool's name and its arguments: marks and labels.
_BETWEEN = re.compile(
    r"(?:[\s\"'>:=]|<[|｜][^|｜<>]*[|｜]>|\[ARGS\]|```(?:json)?|json\b|(?:Action|Tool)[ _]Input\b|args?\b|arguments\b)*",
    re.IGNORECASE,
)
_TAGGED = re.compile(
    r"\s*(?:<parameter(?:=|\s+name=)[\"']?([\w-]+)[\"']?\s*>(.*?)</parameter>"
    r"|<arg_key>\s*([\w-]+)\s*</arg_key>\s*<arg_value>(.*?)</arg_value>)",
    re.DOTALL,
)
_MOST_LOOKED_AT = 64  # places where a call may begin


def _written(text: str, names: list[str]) -> Iterator[tuple[int, int, list[ToolCall]]]:
    """(start, end, calls) of each place that writes calls of known tools."""
    at = looked = 0
    for place in re.finditer(r"\{|(?<![\w-])[A-Za-z][\w.-]*", text):
        if place.start() < at or looked >= _MOST_LOOKED_AT:
            continue
        found: tuple[int, list[ToolCall]] | None = None
        if place[0] == "{":
            looked += 1
            found = _object_at(text, place.start(), names)
        elif (name := tool_name(place[0], names)) in names:
            looked += 1
            if named := _named_at(text, place.end(), name):
                found = named[0], [named[1]]
        if found:
            at = found[0]
            yield place.start(), *found


def _object_at(text: str, start: int, names: list[str]) -> tuple[int, list[ToolCall]] | None:
    """An object that writes a call or several, strictly or, where it is marked, with the slips of small models."""
    is_marked = bool(_MARK.search(text, 0, start))  # then an unknown tool is a call, too, and refused by its name
    try:
        value, end = json.JSONDecoder().raw_decode(text, start)
    except (json.JSONDecodeError, RecursionError):
        closing = _MARK.search(text, start)
        end = closing.start() if closing else len(text)
        value = loads_leniently(text[start:end]) if is_marked else None
    listed = value.get("tool_calls") if isinstance(value, dict) else None
    calls = [call_of(v) for v in (listed if isinstance(listed, list) else [value])]
    known = [replace(c, name=name) for c in calls if c and ((name := tool_name(c.name, names)) in names or is_marked)]
    return (end, known) if known else None


def _named_at(text: str, end: int, name: str) -> tuple[int, ToolCall] | None:
    """The arguments behind a tool's name: `(key="value")`, tags, or an object."""
    if text[end : end + 1] == "(":
        return _python_call(text, end, name)
    start = m.end() if (m := _BETWEEN.match(text, end)) else end
    if text[start : start + 1] == "{":
        try:
            value, stop = json.JSONDecoder().raw_decode(text, start)
        except (json.JSONDecodeError, RecursionError):
            return None
        return (stop, ToolCall(name=name, arguments=value))
    values: dict[str, Any] = {}
    while tagged := _TAGGED.match(text, start):
        key, value = tagged[1] or tagged[3], (tagged[2] if tagged[1] else tagged[4]).strip()
        read = json_or_none(value)
        values[key] = value if read is None else read
        start = tagged.end()
    return (start, ToolCall(name=name, arguments=values)) if values else None


def _python_call(text: str, end: int, name: str) -> tuple[int, ToolCall] | None:
    """`(query="ki-67", k=3)`: keywords with literal values alone; nothing is run."""
    for closing in islice((m.end() for m in re.finditer(r"\)", text[end : end + 4000])), 8):
        try:
            tree = ast.parse(f"f{text[end : end + closing]}", mode="eval").body
            if not isinstance(tree, ast.Call) or tree.args or not tree.keywords:
                return None
            values = {k.arg: ast.literal_eval(k.value) for k in tree.keywords if k.arg}
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        return end + closing, ToolCall(name=name, arguments=values)
    return None


def _unwrapped(values: dict[str, Any], model: type[BaseModel], notes: list[str]) -> dict[str, Any]:
    if len(values) == 1:
        (name, value) = next(iter(values.items()))
        if name in ARGUMENTS and name not in model.model_fields:
            value = loads_leniently(value) if isinstance(value, str) else value
            if isinstance(value, dict):
                notes.append(f"took the arguments out of {name!r}")
                return value
    return values


def _renamed(values: dict[str, Any], model: type[BaseModel], notes: list[str]) -> dict[str, Any]:
    names = {_spelled(name): name for name in model.model_fields}
    fixed: dict[str, Any] = {}
    for name, value in values.items():
        right = name if name in model.model_fields else names.get(_spelled(name))
        if right is None:
            notes.append(f"left out {name!r}, which the tool does not take")
        elif right in fixed:
            notes.append(f"left out {name!r}, a second {right!r}")
        else:
            if right != name:
                notes.append(f"read {name!r} as {right!r}")
            fixed[right] = value
    return fixed


def _refit(fixed: dict[str, Any], name: str, schema: Mapping[str, Any], required: bool, notes: list[str]) -> None:
    """One argument whose value does not fit: the same value in the form the schema asks for, or left out when it is empty."""
    value = fixed[name]
    if value in (None, "", "null", "none", "None") and not required:
        del fixed[name]
        notes.append(f"left out the empty {name!r}")
        return
    kinds = [schema, *schema.get("anyOf", [])]
    for kind in kinds:
        changed = _as_kind(value, kind)
        if changed is not None and changed != value:
            fixed[name] = changed
            notes.append(f"read {name} {json.dumps(value, default=str)} as {json.dumps(changed)}")
            return


def _as_kind(value: Any, kind: Mapping[str, Any]) -> Any:
    if "enum" in kind and isinstance(value, str):
        matches = [e for e in kind["enum"] if _spelled(str(e)) == _spelled(value)]
        return matches[0] if len(matches) == 1 else None
    type_ = kind.get("type")
    if isinstance(value, str) and type_ in ("array", "object"):
        read = json_or_none(value)
        return read if isinstance(read, list | dict) else None
    if type_ == "array" and not isinstance(value, list):
        return [value]
    if type_ == "array" and isinstance(value, list) and kind.get("items", {}).get("type") == "array":
        return [value] if value and not isinstance(value[0], list) else None
    if type_ in ("number", "integer") and isinstance(value, str):
        number = re.fullmatch(r"\s*(-?\d+(?:\.\d+)?)\s*(?:px|um|µm|μm|%|x|times)?(?:\s*/\s*px)?\s*", value)
        return None if number is None else float(number[1]) if "." in number[1] else int(number[1])
    if type_ == "integer" and isinstance(value, float) and value.is_integer():
        return int(value)
    if type_ == "string" and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if type_ == "string" and isinstance(value, list) and value and all(isinstance(v, str) for v in value):
        return " ".join(value)
    return None


def _faults(values: Mapping[str, Any], model: type[BaseModel]) -> set[str]:
    try:
        model.model_validate(dict(values))
    except ValidationError as error:
        return {str(e["loc"][0]) if e["loc"] else "" for e in error.errors()}
    return set()


def _spelled(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
