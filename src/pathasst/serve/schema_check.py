"""A program's JSON schema checked, and values against it, without what such a schema could do to a server.

Nothing is fetched for a reference, a pattern is matched in linear time (by pydantic's engine, in Rust), and references that
multiply are counted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Annotated, Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.validators import extend
from pydantic import StringConstraints, TypeAdapter
from pydantic import ValidationError as Mismatch
from pydantic_core import SchemaError as BadPattern
from referencing import Registry

from pathasst.core.errors import BadSettings
from pathasst.core.text import shortened

MOST_CHARACTERS = 64 * 2**10
"""Of a schema."""
MOST_REFERENCES = 5000
"""Followed for one value."""


def check_schema(schema: Mapping[str, Any]) -> None:
    """Raises BadSettings for what is no JSON schema, is too long, or matches by patterns that take more than linear time."""
    try:
        if len(json.dumps(schema)) > MOST_CHARACTERS:
            raise BadSettings(f"a schema may have {MOST_CHARACTERS} characters.")
        Draft202012Validator.check_schema(schema)
    except (SchemaError, RecursionError) as error:
        reason = error.message if isinstance(error, SchemaError) else "it is nested too deeply"
        raise BadSettings(f"this is no JSON schema: {shortened(reason, 300)}") from error


def fault(value: Any, schema: Mapping[str, Any]) -> str:
    """Why the value does not fit the schema; empty where it does. Raises BadSettings for a schema that cannot be used."""
    followed = 0

    def reference(validator: Any, ref: str, instance: Any, inner: Any) -> Iterator[ValidationError]:
        nonlocal followed
        followed += 1
        if followed > MOST_REFERENCES:
            raise BadSettings(f"the schema follows more than {MOST_REFERENCES} references for one value.")
        yield from Draft202012Validator.VALIDATORS["$ref"](validator, ref, instance, inner)

    kind = extend(Draft202012Validator, {"$ref": reference, "pattern": _pattern, "patternProperties": _pattern_properties})
    try:
        error = next(kind(schema, registry=Registry()).iter_errors(value), None)
    except BadSettings:
        raise
    except Exception as unusable:  # a reference that leads nowhere, recursion without an end
        raise BadSettings(f"the schema cannot be used: {shortened(str(unusable), 200)}") from unusable
    return shortened(f"{'.'.join(map(str, error.path)) or 'it'}: {error.message}", 200) if error else ""


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if isinstance(instance, str) and not _matches(pattern, instance):
        yield ValidationError(f"{instance[:80]!r} does not match {pattern[:80]!r}")


def _pattern_properties(validator: Any, patterns: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if isinstance(instance, Mapping):
        for pattern, inner in patterns.items():
            for key, value in instance.items():
                if _matches(pattern, key):
                    yield from validator.descend(value, inner, path=key, schema_path=pattern)


def _matches(pattern: str, text: str) -> bool:
    """Whether the pattern is in the text."""
    try:
        _adapter(pattern).validate_python(text)
    except Mismatch:
        return False
    except BadPattern as error:
        raise BadSettings(
            f"the pattern {pattern[:100]!r} cannot be matched in linear time: {shortened(str(error), 200)}"
        ) from error
    return True


@lru_cache(maxsize=64)
def _adapter(pattern: str) -> TypeAdapter[Any]:
    kind: Any = Annotated[str, StringConstraints(pattern=pattern)]
    return TypeAdapter(kind)
