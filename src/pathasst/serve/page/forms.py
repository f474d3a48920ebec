"""A tool's JSON schema as form fields, and a form's entries as the tool's arguments. Knows schemas, no tool and no Gradio.

So a new tool appears on the page by being in the registry: its form is its schema.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pathasst.core.errors import BadInput
from pathasst.core.records import ToolSpec
from pathasst.serve.markup.words import title_of

_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")


@dataclass(frozen=True, slots=True)
class Field:
    """One entry of a form."""

    name: str
    kind: str  # number | integer | boolean | choice | text | numbers (a list) | rows (a list of lists)
    info: str = ""
    default: Any = None
    choices: tuple[str, ...] = ()
    required: bool = False

    @property
    def label(self) -> str:
        return title_of(self.name) + (" (required)" if self.required else "")


def fields(spec: ToolSpec) -> list[Field]:
    """The fields of a tool's arguments, required ones first."""
    schema = spec.parameters
    required = set(schema.get("required", ()))
    inputs = [
        _field(name, value, schema.get("$defs", {}), name in required) for name, value in schema.get("properties", {}).items()
    ]
    return sorted(inputs, key=lambda f: not f.required)


def arguments(form: list[Field], entries: list[Any]) -> dict[str, Any]:
    """What the tool is called with: entries left empty are left out. Raises BadInput, naming the field."""
    values = {}
    for field, entry in zip(form, entries, strict=True):
        value = _value(field, entry)
        if value is None:
            if field.required:
                raise BadInput(f"{title_of(field.name)} is needed.")
            continue
        values[field.name] = value
    return values


def _field(name: str, schema: dict[str, Any], defs: dict[str, Any], required: bool) -> Field:
    info, default = schema.get("description", ""), schema.get("default")
    shape = _resolved(schema, defs)
    kind, choices = shape.get("type", "string"), tuple(map(str, shape.get("enum", ())))
    if choices:
        kind = "choice"
    elif kind == "string":
        kind = "text"
    elif kind == "array":
        inner = _resolved(shape.get("items") or (shape.get("prefixItems") or [{}])[0], defs)
        kind = "rows" if inner.get("type") == "array" else "numbers" if inner.get("type") in ("number", "integer") else "text"
        default = None
    return Field(name, kind, info, default, choices, required)


def _resolved(schema: dict[str, Any], defs: dict[str, Any]) -> dict[str, Any]:
    """The schema behind a reference, or the one of several that is not null."""
    if ref := schema.get("$ref"):
        return _resolved(defs.get(ref.rsplit("/", 1)[-1], {}), defs)
    several = [s for s in schema.get("anyOf", ()) if s.get("type") != "null"]
    return _resolved(several[0], defs) if several else schema


def _value(field: Field, entry: Any) -> Any:
    if entry is None or entry == "":
        return None
    if field.kind == "boolean":
        return bool(entry)
    if field.kind in ("integer", "number"):
        return _number(field, str(entry))
    if field.kind == "numbers":
        return _numbers(field, str(entry)) or None
    if field.kind == "rows":
        rows = [_numbers(field, part) for part in re.split(r"[;\n]+", str(entry)) if part.strip()]
        return rows or None
    return str(entry)


def _number(field: Field, text: str) -> int | float:
    text = text.strip().replace(",", ".")
    if not _NUMBER.fullmatch(text):
        raise BadInput(f"{title_of(field.name)} takes a number; {text[:40]!r} is none.")
    value = float(text)
    if field.kind == "integer":
        if value != int(value):
            raise BadInput(f"{title_of(field.name)} takes a whole number.")
        return int(value)
    return value


def _numbers(field: Field, text: str) -> list[float]:
    left = re.sub(r"[\s,;()\[\]]", "", _NUMBER.sub("", text))
    if left:
        raise BadInput(f"{title_of(field.name)} takes numbers such as 40, 40, 160, 160; {text.strip()!r} holds {left!r}.")
    return [float(v) for v in _NUMBER.findall(text)]
