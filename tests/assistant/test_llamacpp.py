"""The in-process brain: what it is asked to keep to, and that a real engine keeps to it."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from pathasst import weights
from pathasst.assistant import BrainSettings
from pathasst.assistant.brains.llamacpp import LlamaCppBrain, for_grammar, messages, reply_schema, to_turn
from pathasst.assistant.repair import UNREADABLE
from pathasst.records import ToolCall, Turn
from pathasst.tools.registry import CLASSES, all_specs

ASKED = [Turn(role="user", content="How many Ki67-positive cells?")]


@pytest.mark.parametrize(
    ("reply", "fits"),
    [
        ({"answer": "Five."}, True),
        ({"calls": [{"name": "ki67_cells", "arguments": {}}]}, True),
        ({"calls": [{"name": "segment", "arguments": {"box": [1, 2, 3, 4]}}, {"name": "lbc_classify", "arguments": {}}]}, True),
        ({"calls": [{"name": "papers_search", "arguments": {"query": "Ki67"}}]}, True),
        ({"calls": [{"name": "papers_search", "arguments": {}}]}, False),  # the query is required
        ({"calls": [{"name": "lbc_classify", "arguments": {"query": "x"}}]}, False),
        ({"calls": [{"name": "nonesuch", "arguments": {}}]}, False),
        ({"calls": []}, False),
        ({"answer": 5}, False),
        ({}, False),
    ],
)
def test_the_schema_lets_through_answers_and_calls_that_fit(reply: dict[str, Any], fits: bool) -> None:
    validator = jsonschema.Draft202012Validator(reply_schema(all_specs()))
    assert validator.is_valid(reply) is fits


def test_without_tools_only_an_answer_fits() -> None:
    validator = jsonschema.Draft202012Validator(reply_schema([]))
    assert validator.is_valid({"answer": "x"})
    assert not validator.is_valid({"calls": [{"name": "ki67_cells", "arguments": {}}]})


def test_names_stay_and_bounds_go() -> None:
    schema = {"type": "object", "title": "T", "properties": {"title": {"type": "string", "maxLength": 9, "default": "x"}}}
    assert for_grammar(schema) == {"type": "object", "properties": {"title": {"type": "string"}}, "additionalProperties": False}


def test_messages_take_turns_and_keep_the_form() -> None:
    turns = [
        *ASKED,
        Turn(
            role="assistant", tool_calls=[ToolCall(name="ki67_cells"), ToolCall(name="papers_search", arguments={"query": "a"})]
        ),
        Turn(role="tool", tool="ki67_cells", content="Index 20 %."),
        Turn(role="tool", tool="papers_search", content="word " * 500),
        Turn(role="assistant", content="20 %."),
    ]
    said = messages(turns, all_specs(), longest=200)
    assert [m["role"] for m in said] == ["system", "user", "assistant", "user", "assistant"]
    assert json.loads(said[2]["content"])["calls"][1] == {"name": "papers_search", "arguments": {"query": "a"}}
    assert said[3]["content"].count("<tool_output") == 2
    assert "… (cut)" in said[3]["content"]
    assert json.loads(said[4]["content"]) == {"answer": "20 %."}
    assert "- papers_search(query, k?): " in said[0]["content"]


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        ('{"answer": "Five."}', "Five.", []),
        ('{"answer": "Cut \\"off\\" at the lim', 'Cut "off" at the lim …', []),
        ('{"answer": "Cut in an escape \\', "Cut in an escape  …", []),
        ('{"calls": [{"name": "segment", "arguments": {"points": [[1, 2', "", [(UNREADABLE, {})]),
        ('{"calls": [{"name": "segment", "arg', "", [(UNREADABLE, {})]),
        ('{"calls": [{"name": "segment", "arguments": {"points": [[1, 2]]}}]}', "", [("segment", {"points": [[1, 2]]})]),
        ('{"calls": [{"name": "segment"}]}', "", [(UNREADABLE, {})]),
        ("plain words", "plain words", []),
    ],
)
def test_a_reply_becomes_a_turn(text: str, content: str, calls: list[tuple[str, dict[str, Any]]]) -> None:
    turn = to_turn(text)
    assert turn.content == content
    assert [(c.name, c.arguments) for c in turn.tool_calls] == calls


def test_a_real_engine_keeps_to_the_schema() -> None:
    """SmolLM2-135M was never taught tools: what it says still is an answer or calls that fit, because decoding is constrained."""
    pytest.importorskip("xllamacpp")
    if not weights.present("smollm2-135m"):
        pytest.skip("the weights smollm2-135m are not here: pathasst models pull smollm2-135m")
    brain = LlamaCppBrain.open(BrainSettings(kind="llamacpp", model="smollm2-135m", sees=False, seconds=400), threads=1)
    schema = reply_schema(all_specs())
    body = {
        "messages": [{"role": "user", "content": "Find papers."}],
        "max_tokens": 40,
        "temperature": 0.0,
        "response_format": {"type": "json_schema", "json_schema": {"name": "reply", "schema": schema}},
    }
    answer, _ = brain.transport.post(body)
    text = answer["choices"][0]["message"]["content"]
    assert text.lstrip().startswith("{")
    assert to_turn(text).content or to_turn(text).tool_calls
    for call in to_turn(text).tool_calls:
        assert call.name in {*CLASSES, UNREADABLE}
    assert brain.name.startswith("smollm2-135m@")
