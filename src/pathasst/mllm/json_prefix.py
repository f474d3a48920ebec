"""Whether the beginning of a JSON text can still become a value that fits a JSON schema. Knows text and schemas alone.

Covers what tools' schemas say (see `tools.protocol`): properties, required, closed objects, types, enum, const, anyOf, bounds of
numbers, lengths of texts, items, prefixItems and their counts. A word of a schema that is not known here forbids nothing; the
tool itself validates every call once more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]
OPEN_ENDED, BROKEN = -1, -2
LONGEST_NUMBER = 16  # characters
_BLANKS, _ESCAPES, _NUMBER = " \n", set('"\\/bfnrtu'), set("0123456789+-.eE")
_LITERALS = ("true", "false", "null")


def value_end(text: str, at: int, schema: Schema) -> int:
    """Where the value that begins at `at` ends; OPEN_ENDED when it may still become one that fits, BROKEN when it cannot."""
    if at >= len(text):
        return OPEN_ENDED
    if "anyOf" in schema:
        return _best(value_end(text, at, one) for one in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return _best(_literal(text, at, choice) for choice in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type")
    if kind == "object":
        return _object(text, at, schema)
    if kind == "array":
        return _array(text, at, schema)
    if kind == "string":
        return _string(text, at, schema)
    if kind in ("number", "integer"):
        return _number(text, at, schema)
    if kind in ("boolean", "null"):
        return _best(_literal(text, at, choice) for choice in ((True, False) if kind == "boolean" else (None,)))
    begins = {"{": _object, "[": _array, '"': _string}
    return begins[text[at]](text, at, schema) if text[at] in begins else scalar_end(text, at)


def string_end(text: str, at: int) -> int:
    """Where the string whose opening quote stands at `at` ends, OPEN_ENDED or BROKEN."""
    at += 1
    while at < len(text):
        if text[at] == "\\":
            if at + 1 < len(text) and text[at + 1] not in _ESCAPES:
                return BROKEN
            at += 2
        elif text[at] == '"':
            return at + 1
        elif text[at] < " ":
            return BROKEN
        else:
            at += 1
    return OPEN_ENDED


def scalar_end(text: str, at: int) -> int:
    """Where the number, true, false or null that begins at `at` ends, OPEN_ENDED or BROKEN."""
    end = at
    while end < len(text) and text[end] not in ",]} \n":
        end += 1
    word = text[at:end]
    if any(literal.startswith(word) for literal in _LITERALS):
        return end if word in _LITERALS else OPEN_ENDED if end == len(text) else BROKEN
    if not word or set(word) - _NUMBER:
        return BROKEN
    if end == len(text):
        return OPEN_ENDED
    try:
        float(word)
    except ValueError:
        return BROKEN
    return end


def _best(ends: Any) -> int:
    """Of several readings, one that is whole, else one that may become so."""
    found = list(ends)
    whole = [end for end in found if end >= 0]
    return whole[0] if whole else OPEN_ENDED if OPEN_ENDED in found else BROKEN


def _literal(text: str, at: int, value: Any) -> int:
    written = json.dumps(value, ensure_ascii=False)
    if text.startswith(written, at):
        return at + len(written)
    return OPEN_ENDED if written.startswith(text[at:]) else BROKEN


def _string(text: str, at: int, schema: Schema) -> int:
    if text[at] != '"':
        return BROKEN
    end = string_end(text, at)
    length = (len(text) if end < 0 else end - 1) - at - 1  # as written: an escape counts as more than one
    if end == BROKEN or length > schema.get("maxLength", length):
        return BROKEN
    return BROKEN if end >= 0 and length < schema.get("minLength", 0) else end


def _number(text: str, at: int, schema: Schema) -> int:
    if text[at] not in "-0123456789":
        return BROKEN
    end = scalar_end(text, at)
    word = text[at : end if end >= 0 else len(text)]
    if end == BROKEN or len(word) > LONGEST_NUMBER or (schema.get("type") == "integer" and set(word) & set(".eE")):
        return BROKEN
    if end < 0:
        return OPEN_ENDED
    value = float(word)
    inside = schema.get("minimum", value) <= value <= schema.get("maximum", value)
    above = value > schema.get("exclusiveMinimum", value - 1)
    return end if inside and above and value < schema.get("exclusiveMaximum", value + 1) else BROKEN


def _array(text: str, at: int, schema: Schema) -> int:
    if text[at] != "[":
        return BROKEN
    least, most, count = schema.get("minItems", 0), schema.get("maxItems", 10**6), 0
    at = _skip(text, at + 1)
    while at < len(text):
        if text[at] == "]":
            return at + 1 if count >= least else BROKEN
        if count:
            if text[at] != ",":
                return BROKEN
            at = _skip(text, at + 1)
        if count >= most:
            return BROKEN
        first = schema.get("prefixItems", [])
        at = value_end(text, at, first[count] if count < len(first) else schema.get("items", {}))
        if at < 0:
            return at
        count, at = count + 1, _skip(text, at)
    return OPEN_ENDED


def _object(text: str, at: int, schema: Schema) -> int:
    if text[at] != "{":
        return BROKEN
    properties: Mapping[str, Schema] = schema.get("properties", {})
    seen: list[str] = []
    closed = schema.get("additionalProperties") is False
    at = _skip(text, at + 1)
    while at < len(text):
        if text[at] == "}":
            return at + 1 if set(schema.get("required", [])) <= set(seen) else BROKEN
        if seen:
            if text[at] != "," or (closed and len(seen) == len(properties)):
                return BROKEN
            at = _skip(text, at + 1)
        left = [name for name in properties if name not in seen]
        key = _best(_literal(text, at, name) for name in left) if closed else _key(text, at)
        if key < 0:
            return OPEN_ENDED if at >= len(text) else key
        try:
            name = json.loads(text[at:key])
        except json.JSONDecodeError:
            return BROKEN
        at = _skip(text, key)
        if at < len(text) and text[at] != ":":
            return BROKEN
        at = value_end(text, _skip(text, at + 1), properties.get(name, {})) if at < len(text) else OPEN_ENDED
        if at < 0:
            return at
        seen.append(name)
        at = _skip(text, at)
    return OPEN_ENDED


def _key(text: str, at: int) -> int:
    if at >= len(text):
        return OPEN_ENDED
    return string_end(text, at) if text[at] == '"' else BROKEN


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _BLANKS:
        at += 1
    return at
