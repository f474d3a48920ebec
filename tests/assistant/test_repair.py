from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pathasst.assistant.repair import arguments, calls_in, tool_name
from pathasst.llm.tool_calls import loads_leniently
from pathasst.tools.registry import CLASSES, tool_class


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("ki67_cells", "ki67_cells"),
        ("Ki67-Cells", "ki67_cells"),
        ("functions.ki67_cells", "ki67_cells"),
        ("tools/HER2 cells", "her2_cells"),
        ("ki67", "ki67"),  # never guessed
        ("cells", "cells"),
    ],
)
def test_names_are_read_in_other_letters_and_never_guessed(name: str, found: str) -> None:
    assert tool_name(name, CLASSES) == found


@pytest.mark.parametrize(
    ("tool", "given_", "fixed"),
    [
        ("papers_search", {"query": "Ki67", "k": "3 "}, {"query": "Ki67", "k": "3 "}),  # pydantic reads it as it is
        ("papers_search", {"Query": "Ki67", "top": 9}, {"query": "Ki67"}),
        ("papers_search", {"query": ["Ki67", "prognosis"]}, {"query": "Ki67 prognosis"}),
        ("papers_search", {"query": 12345}, {"query": "12345"}),
        ("papers_search", {"input": '{"query": "Ki67"}'}, {"query": "Ki67"}),
        ("lbc_generate", {"cell_class": "hsil", "count": 2.0}, {"cell_class": "HSIL", "count": 2.0}),
        (
            "lbc_generate",
            {"cellClass": "asc us", "nuclear_enlargement": "2.5 times"},
            {"cell_class": "ASC-US", "nuclear_enlargement": 2.5},
        ),
        ("segment", {"box": "[1, 2, 30, 40]"}, {"box": [1, 2, 30, 40]}),
        ("segment", {"points": [10, 20]}, {"points": [[10, 20]]}),
    ],
)
def test_arguments_of_the_real_tools_are_repaired(tool: str, given_: dict[str, Any], fixed: dict[str, Any]) -> None:
    model = tool_class(tool).arguments
    found, notes = arguments(given_, model)
    assert found == fixed
    model.model_validate(found)
    assert bool(notes) == (given_ != fixed)


@pytest.mark.parametrize(
    ("tool", "given_"),
    [
        ("papers_search", {}),
        ("papers_search", {"query": ""}),
        ("lbc_generate", {"cell_class": "cancer"}),
        ("segment", {"box": "left"}),
    ],
)
def test_what_says_something_else_is_not_invented(tool: str, given_: dict[str, Any]) -> None:
    found, _ = arguments(given_, tool_class(tool).arguments)
    assert found == given_


@given(
    st.dictionaries(
        st.text(max_size=8), st.one_of(st.none(), st.text(max_size=8), st.integers(), st.lists(st.integers())), max_size=4
    )
)
def test_any_arguments_can_be_tried(given_: dict[str, Any]) -> None:
    for tool in ("papers_search", "segment", "lbc_generate"):
        arguments(given_, tool_class(tool).arguments)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1}', {"a": 1}),
        ("{'a': True, 'b': None,}", {"a": True, "b": None}),
        ('say {"a": {"b": [1, 2]', {"a": {"b": [1, 2]}}),
        ('{"a": {"b": "c"', {"a": {"b": "c"}}),
        ('{"a": "unfinished', None),
        ('{"a": 70', None),
        ("nothing", None),
        ("{a: b}", None),
    ],
)
def test_lenient_json(text: str, value: Any) -> None:
    assert loads_leniently(text) == value


@given(st.text(max_size=80))
def test_any_text_can_be_read(text: str) -> None:
    loads_leniently("{" + text)
    calls_in("<tool_call>" + text, CLASSES)


def test_calls_in_words() -> None:
    calls, words, opened = calls_in(
        'Yes. <tool_call>{"name": "Segment", "parameters": {"box": [1,2,3,4],}}</tool_call> Wait.', CLASSES
    )
    assert [(c.name, c.arguments) for c in calls] == [("segment", {"box": [1, 2, 3, 4]})]
    assert (words, opened) == ("Yes.\nWait.", True)
    assert calls_in("No call.", CLASSES) == ([], "No call.", False)
    assert json.dumps(calls_in("<tool_call>oops", CLASSES)) == '[[], "", true]'


QUERY = '{"query": "ki-67"}'
WRITTEN = [
    f'```json\n{{"name": "papers_search", "arguments": {QUERY}}}\n```',
    f'{{"name": "functions.papers_search", "parameters": {QUERY}}}',
    f'[{{"name": "papers_search", "arguments": {QUERY}}}]',
    f'{{"tool_calls": [{{"type": "function", "function": {{"name": "papers_search", "arguments": {QUERY}}}}}]}}',
    f"Action: papers_search\nAction Input: {QUERY}",
    f'Action: ```json\n[\n  {{"tool_name": "papers_search", "parameters": {QUERY}}}\n]```',
    'papers_search(query="ki-67")',
    '[papers_search(query="ki-67")]',
    '```tool_code\npapers_search(query="ki-67")\n```',
    "<function=papers_search>\n<parameter=query>\nki-67\n</parameter>\n</function>",
    f"<function=papers_search>{QUERY}</function>",
    "<tool_call>\n<function=papers_search>\n<parameter=query>\nki-67\n</parameter>\n</function>\n</tool_call>",
    "<tool_call>papers_search\n<arg_key>query</arg_key>\n<arg_value>ki-67</arg_value>\n</tool_call>",
    f'<tool_call>\n{{"name": "papers_search", "arguments": {QUERY}',
    f'[TOOL_CALLS][{{"name": "papers_search", "arguments": {QUERY}}}]',
    f"[TOOL_CALLS]papers_search[ARGS]{QUERY}",
    f'<|python_tag|>{{"name": "papers_search", "parameters": {QUERY}}}',
    f'<|tool_call|>[{{"name": "papers_search", "arguments": {QUERY}}}]<|/tool_call|>',
    f"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>papers_search\n```json\n{QUERY}\n```<｜tool▁call▁end｜>",
    f"<|channel|>commentary to=functions.papers_search <|constrain|>json<|message|>{QUERY}<|call|>",
    '<function_calls>\n<invoke name="papers_search">\n<parameter name="query">ki-67</parameter>\n</invoke>\n</function_calls>',
]


@pytest.mark.parametrize("text", WRITTEN)
def test_a_call_is_read_as_the_templates_of_models_write_it(text: str) -> None:
    calls, words, _ = calls_in(text, ["papers_search", "segment"])
    assert [(c.name, c.arguments) for c in calls] == [("papers_search", {"query": "ki-67"})]
    assert not words
    assert not calls_in(text, ["other"])[0] or "<" in text or "[TOOL" in text  # marked as a call, it is one of an unknown tool


@pytest.mark.parametrize("text", WRITTEN[:10])
def test_a_call_that_is_spoken_of_is_none(text: str) -> None:
    assert calls_in(f"For example: {text} and so on.", ["papers_search"])[0] == []


def test_words_before_a_call_are_kept_and_every_call_is_read() -> None:
    both = "\n".join(f'<tool_call>{{"name": "{n}", "arguments": {{}}}}</tool_call>' for n in ("segment", "papers_search"))
    assert [c.name for c in calls_in(both, ["papers_search", "segment"])[0]] == ["segment", "papers_search"]
    pair = '[segment(box=[1, 2, 3, 4]), papers_search(query="x")]'
    assert [c.arguments for c in calls_in(pair, ["papers_search", "segment"])[0]] == [{"box": [1, 2, 3, 4]}, {"query": "x"}]
    calls, words, _ = calls_in(f"I look it up:\n{WRITTEN[0]}", ["papers_search"])
    assert (len(calls), words) == (1, "I look it up:")
    answer = "Use papers_search(query='x') or segment.\n\nsegment: outlines cells."
    assert calls_in(answer, ["papers_search", "segment"]) == ([], answer, False)
