"""Tools as text: the list that a model reads, and calls as it writes them, there and back."""

from __future__ import annotations

import json

import pytest

from pathasst.core.records import ToolCall, ToolSpec
from pathasst.mllm.tool_text import call_head, call_written, calls_of, list_tools, write_calls


def spec(name: str = "count", description: str = "Counts.", required: tuple[str, ...] = (), **properties: dict) -> ToolSpec:
    return ToolSpec(
        name=name, description=description, parameters={"type": "object", "properties": properties, "required": list(required)}
    )


def line(one: ToolSpec) -> str:
    """The tool's own line of the list."""
    head, own, how = list_tools([one]).splitlines()
    assert (head, how) == ("Tools:", 'Call a tool by writing <tool_call>{"name": ..., "arguments": {...}}</tool_call>.')
    return own


def test_the_list_has_one_line_a_tool_and_says_how_to_call() -> None:
    both = list_tools([spec("a", "Sees."), spec("b", "Hears.")])
    assert both.splitlines()[1:3] == ["a(): Sees", "b(): Hears"] and len(both.splitlines()) == 4
    assert list_tools([]) == ""
    assert line(ToolSpec(name="bare", description="Is.", parameters={})) == "bare(): Is"


@pytest.mark.parametrize(
    ("schema", "shown"),
    [
        ({"type": "number"}, "float"),
        ({"type": "integer"}, "int"),
        ({"type": "string"}, "str"),
        ({"type": "boolean"}, "bool"),
        ({"type": "object"}, "any"),
        ({}, "any"),
        ({"enum": ["NILM", 3]}, "NILM|3"),
        ({"anyOf": [{"type": "null"}, {"type": "integer"}]}, "int"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "str"),
        ({"anyOf": [{"type": "null"}]}, "any"),
        ({"type": "array", "items": {"type": "integer"}}, "[int]"),
        ({"type": "array"}, "[any]"),
        ({"type": "array", "prefixItems": [{"type": "number"}, {"type": "string"}]}, "[float, str]"),
        ({"type": "array", "items": {"type": "array", "items": {"type": "number"}}}, "[[float]]"),
    ],
)
def test_required_arguments_say_their_type_and_others_that_they_may_be_left_out(schema: dict, shown: str) -> None:
    assert line(spec(required=("x",), x=schema, y=schema)) == f"count(x: {shown}, y?): Counts"


@pytest.mark.parametrize(
    ("description", "shown"),
    [
        ("Counts nuclei. Not for H&E.", "Counts nuclei"),
        ("Measures 0.5 µm and more.", "Measures 0.5 µm and more"),
        ("a" * 24 + " " + "b" * 23 + ".", "a" * 24 + " " + "b" * 23),  # 48 characters fit
        ("a" * 24 + " " + "b" * 24, "a" * 24),  # 49 do not
        ("a" * 24 + " " + "b" * 22 + " c", "a" * 24 + " " + "b" * 22),  # the word that the cut falls behind stays
        ("a" * 24 + ",;( " + "b" * 24, "a" * 24),
        ("a" * 60, "a" * 48),
    ],
)
def test_a_purpose_is_its_first_sentence_cut_at_a_word(description: str, shown: str) -> None:
    assert line(spec(description=description)) == f"count(): {shown}"


CALLS = [ToolCall(name="papers_search", arguments={"query": "Ki-67 α", "k": 3}), ToolCall(name="ki67_cells")]


def test_calls_are_written_one_a_line_and_read_back_in_order() -> None:
    written = write_calls(CALLS)
    assert written == (
        '<tool_call>{"name": "papers_search", "arguments": {"k": 3, "query": "Ki-67 α"}}</tool_call>\n'
        '<tool_call>{"name": "ki67_cells", "arguments": {}}</tool_call>'
    )
    found, words = calls_of(f" I look it up.\n{written}\nAnd then? ")
    assert [(c.name, c.arguments, c.id) for c in found] == [
        ("papers_search", {"query": "Ki-67 α", "k": 3}, "call_1"),
        ("ki67_cells", {}, "call_2"),
    ]
    assert words == "I look it up.\n\n\nAnd then?"
    assert write_calls([]) == "" and calls_of("") == ([], "")


def test_a_head_is_how_a_call_begins() -> None:
    assert write_calls(CALLS[1:]).startswith(call_head("ki67_cells") + " ")


@pytest.mark.parametrize(
    ("text", "name", "arguments"),
    [
        ('<tool_call>{"name": "b", "arguments": {"k": 2}}</tool_call> <tool_call>{"name": "c"}</tool_call>', "b", {"k": 2}),
        ('<tool_call>{"name": "b", "arguments": {"k": ', "a", {}),
        ("", "a", {}),
    ],
)
def test_the_first_call_counts_or_a_bare_one_of_the_tool(text: str, name: str, arguments: dict) -> None:
    assert call_written(text, "a") == ToolCall(name=name, arguments=arguments)


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>  {"name": "a", "arguments": {"k": 1}}</tool_call>',
        '<tool_call>{"name": "a", "arguments": {"k": 1}}',  # the closing tag is forgiven
        '<tool_call>\n{"arguments": {"k": 1}, "name": "a"}</tool_call>',
    ],
)
def test_what_is_meant_as_a_call_is_read(text: str) -> None:
    assert calls_of(text) == ([ToolCall(name="a", arguments={"k": 1}, id="call_1")], "")


@pytest.mark.parametrize("broken", ["", "{", "[1]", '{"name": 3}', '{"arguments": {}}', '{"name": "a", "arguments": [1]}'])
def test_what_is_no_call_stays_words_and_the_next_call_is_read(broken: str) -> None:
    good = write_calls(CALLS[1:])
    calls, words = calls_of(f"<tool_call>{broken}</tool_call> {good}")
    assert [(c.name, c.id) for c in calls] == [("ki67_cells", "call_1")]
    assert words == f"<tool_call>{broken}</tool_call>"


def test_a_call_without_arguments_needs_none() -> None:
    (call,), _ = calls_of('<tool_call>{"name": "a"}</tool_call>')
    assert (call.name, call.arguments) == ("a", {})
    assert json.loads(write_calls([call]).removeprefix("<tool_call>").removesuffix("</tool_call>"))["arguments"] == {}
