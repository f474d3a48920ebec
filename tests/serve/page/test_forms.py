"""Forms from the schemas of real tools."""

from __future__ import annotations

from typing import Any

import pytest
from assistant_parts import CountDark

from pathasst.core.errors import BadInput
from pathasst.serve.page.forms import arguments, fields
from pathasst.tools.registry import all_classes


def test_the_form_of_a_tool() -> None:
    form = fields(CountDark.spec())
    assert [(f.name, f.kind, f.default) for f in form] == [
        ("threshold", "integer", 100),
        ("shade", "choice", "grey"),
        ("box", "numbers", None),
    ]
    given = arguments(form, [" 120 ", "red", "1, 2; 3 4"])
    assert given == {"threshold": 120, "shade": "red", "box": [1.0, 2.0, 3.0, 4.0]}
    assert CountDark.arguments.model_validate(given).threshold == 120
    assert arguments(form, ["", None, ""]) == {}


@pytest.mark.parametrize(
    ("entries", "reason"),
    [(["many", "", ""], "takes a number"), (["1.5", "", ""], "whole number"), (["", "", "1, x"], "holds 'x'")],
)
def test_wrong_entries_are_named(entries: list[Any], reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        arguments(fields(CountDark.spec()), entries)


@pytest.mark.parametrize("tool", all_classes(), ids=lambda cls: cls.name)
def test_every_tool_has_a_form_whose_defaults_are_valid(tool: Any) -> None:
    form = fields(tool.spec())
    sample = {"text": "Ki67 index", "choice": None, "number": "1", "integer": "1", "numbers": "0, 0, 9, 9", "rows": "1, 1"}
    entries = [(f.choices[0] if f.choices else sample.get(f.kind, True)) if f.required else f.default for f in form]
    tool.arguments.model_validate(arguments(form, entries))
