from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathasst.mllm.constrain import BROKEN, OPEN_ENDED, allowed, object_end
from pathasst.mllm.tool_text import list_tools, write_calls
from pathasst.records import ToolCall

from .conftest import SPECS

NAMES = ["ki67_cells", "segment"]
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
    assert object_end(body + "}") == len(body)


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


def test_object_end_tells_open_from_broken():
    assert object_end('{"a": [1, {"b": "}') == OPEN_ENDED
    assert object_end('{"a": [1}') == BROKEN
    assert object_end("[1]") == BROKEN


def test_tools_are_listed_in_a_line_each():
    text = list_tools(SPECS)
    assert "ki67_cells(): Counts nuclei\n" in text
    assert "papers_search(query: str, k?): Searches abstracts of the literature\n" in text
    assert list_tools([]) == ""
