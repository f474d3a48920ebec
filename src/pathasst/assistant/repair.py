"""One honest repair of a tool call that does not fit its tool. Knows schemas and pydantic; no brain and no model.

A call is repaired once, by rules that change how a thing is written, and leave out what the tool does not take; each change is
noted for the answer. What still does not fit is reported to the brain with the reason, and the brain may try again within its
limits.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ValidationError

from pathasst.core.records import ToolCall
from pathasst.llm.tool_calls import ARGUMENTS, call_of, json_or_none, loads_leniently

UNREADABLE = "unreadable_call"
"""The name of a call that could not be read at all."""
OPEN, CLOSE = "<tool_call>", "</tool_call>"


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
    """Calls a model left in its words as `<tool_call>{…}` with broken JSON. Returns calls, other words, whether one opened.

    Only the brain's own words are ever given to this; a call inside tool output is never looked for.
    """
    if OPEN not in text:
        call = _fenced(text, names) or _xml(text, names)
        return ([call], "", False) if call else ([], text, False)
    before, _, rest = text.partition(OPEN)
    body, _, after = rest.partition(CLOSE)
    call = _call_of(loads_leniently(body), names)
    return ([call], (before + after).strip(), True) if call else ([], before.strip(), True)


def _call_of(value: Any, names: Iterable[str]) -> ToolCall | None:
    """A call written as a JSON object, its name as the known tools are spelled."""
    call = call_of(value)
    return replace(call, name=tool_name(call.name, names)) if call else None


def _fenced(text: str, names: Iterable[str]) -> ToolCall | None:
    """A reply that is nothing but a call of a known tool as JSON, in a code fence or bare."""
    body = text.strip()
    if body.startswith("```") and body.endswith("```"):
        body = body[3:-3].strip().removeprefix("json").strip()
    names = list(names)
    call = _call_of(json_or_none(body), names) if body.startswith("{") and body.endswith("}") else None
    return call if call and call.name in names else None


def _xml(text: str, names: Iterable[str]) -> ToolCall | None:
    """A reply that is nothing but `<function=name><parameter=key>value</parameter>…</function>` of a known tool."""
    body = text.strip()
    if not (body.startswith("<function=") and body.endswith("</function>")):
        return None
    name, _, rest = body.removeprefix("<function=").removesuffix("</function>").partition(">")
    names, values = list(names), {}
    if tool_name(name.strip(), names) not in names:
        return None
    for part in rest.split("<parameter=")[1:]:
        key, _, value = part.partition(">")
        value = value.partition("</parameter>")[0].strip()
        read = json_or_none(value)
        values[key.strip()] = value if read is None else read
    return ToolCall(name=tool_name(name.strip(), names), arguments=values)


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
