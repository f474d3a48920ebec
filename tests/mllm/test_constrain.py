from __future__ import annotations

import json

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathasst.core.records import ToolCall
from pathasst.mllm.constrain import allowed
from pathasst.mllm.json_prefix import BROKEN, OPEN_ENDED, value_end
from pathasst.mllm.tool_text import list_tools, write_calls
from pathasst.tools.registry import all_specs

from .conftest import SPECS

NAMES: dict = {"ki67_cells": {}, "segment": {}}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=80, deadline=None)
@given(arguments=st.dictionaries(st.text(max_size=5), VALUES, max_size=3), words=st.text("ab .", max_size=5))
def test_every_beginning_of_a_valid_call_is_allowed(arguments, words):
    text = words + write_calls([ToolCall(name="segment", arguments=arguments), ToolCall(name="ki67_cells")])
    assert all(allowed(text[:n], NAMES) for n in range(len(text) + 1))
    body = json.dumps(arguments)
    assert value_end(body + "}", 0, {"type": "object"}) == len(body)


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>{"name": "segmentx',
        "<tool_call> Let me",
        '<tool_call>{"name": "segment", "arguments": {"a": }',
        '<tool_call>{"name": "segment", "arguments": {"a" 1',
        '<tool_call>{"name": "segment", "arguments": {,',
        '<tool_call>{"name": "segment", "arguments": {}} and',
    ],
)
def test_what_cannot_become_a_call_is_not(text):
    assert not allowed(text, NAMES)


def test_open_is_told_from_broken():
    assert value_end('{"a": [1, {"b": "}', 0, {}) == OPEN_ENDED
    assert value_end('{"a": [1}', 0, {}) == BROKEN
    assert value_end("[1]", 0, {"type": "object"}) == BROKEN


OFFERED = {spec.name: spec.parameters for spec in all_specs()}
FITTING = [
    ("ki67_cells", {}),
    ("ki67_cells", {"um_per_px": 0.25, "min_score": None}),
    ("lbc_generate", {"cell_class": "ASC-US", "count": 8, "hyperchromasia": True, "nuclear_enlargement": 2.5}),
    ("segment", {"points": [[1, 2], [3.5, 4]], "box": None}),
    ("segment", {"box": [10, 20, 200, 180.5], "not_points": []}),
    ("papers_search", {"query": 'Ki-67 "index" in µm, naïve', "k": 20}),
    ("blood_cells", {"white_cell_types": False}),
]
NOT_FITTING = [
    ("ki67_cells", '{"um_per_px": "0.25"'),
    ("ki67_cells", '{"um_per_px": 20,'),
    ("ki67_cells", '{"magnification"'),
    ("ki67_cells", '{"um_per_px": 0.5, "um_per_px"'),
    ("lbc_generate", '{"cell_class": "HSILX"'),
    ("lbc_generate", '{"count": 2.'),
    ("lbc_generate", '{"count": 9,'),
    ("lbc_classify", '{"'),
    ("segment", '{"box": [1, 2, 3]'),
    ("segment", '{"box": [1, 2, 3, 4,'),
    ("segment", '{"points": [1'),
    ("papers_search", "{}"),
    ("papers_search", '{"query": "a"'),
    ("papers_search", '{"query": "ab", "k": 0,'),
    ("blood_cells", '{"white_cell_types": "yes"'),
]


@pytest.mark.parametrize(("name", "arguments"), FITTING)
def test_arguments_that_fit_can_be_written_letter_by_letter(name, arguments):
    text = write_calls([ToolCall(name=name, arguments=arguments)])
    assert all(allowed(text[:n], OFFERED) for n in range(len(text) + 1))


@pytest.mark.parametrize(("name", "written"), NOT_FITTING)
def test_arguments_that_do_not_fit_cannot(name, written):
    assert not allowed(f'<tool_call>{{"name": "{name}", "arguments": {written}', OFFERED)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_what_can_be_finished_fits(data):
    """A random walk that only ever writes allowed letters: a call that gets finished is valid for its tool."""
    name = data.draw(st.sampled_from(sorted(OFFERED)))
    head = f'<tool_call>{{"name": "{name}", "arguments": '
    text = head + "{"
    letters = sorted({*'{}[]":,.-0123456789 eE', *"".join(OFFERED[name].get("properties", {})), *"truefalsn", *"ASC-USHILNM"})
    for _ in range(80):
        possible = [letter for letter in letters if allowed(text + letter, OFFERED)]
        if not possible:
            break
        text += data.draw(st.sampled_from(possible))
        if text.endswith("}</tool_call>") or value_end(text, len(head), OFFERED[name]) >= 0:
            jsonschema.validate(
                json.loads(text[len(head) :][: value_end(text, len(head), OFFERED[name]) - len(head)]), OFFERED[name]
            )
            break


def test_tools_are_listed_in_a_line_each():
    text = list_tools(SPECS)
    assert "ki67_cells(): Counts nuclei\n" in text
    assert "papers_search(query: str, k?): Searches abstracts of the literature\n" in text
    assert list_tools([]) == ""
