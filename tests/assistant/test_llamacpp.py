"""The in-process brain: what it is asked, one thing at a time, what it is held to, and that a real engine keeps to it."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from assistant_parts import ChatServer

from pathasst.assistant import BrainSettings
from pathasst.assistant.brains.dialogue import EXAMPLES, arguments_asked, dialogue
from pathasst.assistant.brains.llamacpp import LlamaCppBrain, choice_schema, for_grammar
from pathasst.assistant.repair import UNREADABLE
from pathasst.core import weights
from pathasst.core.errors import BadInput, Unreachable
from pathasst.core.records import ToolCall, Turn
from pathasst.llm.settings import LLMSettings
from pathasst.llm.transport import Transport
from pathasst.tools.look import Look
from pathasst.tools.registry import CLASSES, all_specs

ASKED = [Turn(role="user", content="How many Ki67-positive cells? 0.5 µm per pixel.")]
SPECS = {spec.name: spec for spec in [*all_specs(), Look.spec()]}


def brain(server: ChatServer) -> LlamaCppBrain:
    return LlamaCppBrain(
        "q@1", Transport(LLMSettings(base_url=server.url, model="q", key_env="", attempts=1), server.url), 50, 0.0, None
    )


def says(*texts: str) -> Any:
    """What the engine says, in turn: as JSON, or as a stream where it is asked for one."""
    script = list(texts)

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        text = script.pop(0)
        if not body.get("stream"):
            return 200, {"choices": [{"message": {"role": "assistant", "content": text}}]}
        pieces = [json.dumps({"choices": [{"delta": {"content": word + " "}}]}) for word in text.split(" ")]
        return 200, "".join(f"data: {piece}\n\n" for piece in pieces) + "data: [DONE]\n\n"

    return answer


def schema_of(body: dict[str, Any]) -> dict[str, Any]:
    return body["response_format"]["json_schema"]["schema"]


def test_first_the_tools_then_their_arguments(chat_server: ChatServer) -> None:
    chat_server.answer = says('{"tools": ["ki67_cells", "papers_search"]}', '{"um_per_px": 0.5}', '{"query": "Ki67"}')
    turn = brain(chat_server).reply(ASKED, [], list(SPECS.values()))
    assert [(c.name, c.arguments) for c in turn.tool_calls] == [
        ("ki67_cells", {"um_per_px": 0.5}),
        ("papers_search", {"query": "Ki67"}),
    ]
    choice, first, second = chat_server.requests
    assert jsonschema.Draft202012Validator(schema_of(choice)).is_valid({"tools": ["segment"]})
    assert not jsonschema.Draft202012Validator(schema_of(choice)).is_valid({"tools": ["nonesuch"]})
    assert set(schema_of(first)["properties"]) == {"um_per_px", "min_score"}
    assert schema_of(second)["required"] == ["query"]
    assert first["messages"][: len(choice["messages"])] == choice["messages"]  # one beginning: llama.cpp reads it once
    assert "um_per_px (only if the person says so): number." in first["messages"][-1]["content"]


def test_a_tool_without_arguments_is_not_asked_for_any(chat_server: ChatServer) -> None:
    chat_server.answer = says('{"tools": ["lbc_classify"]}')
    assert brain(chat_server).reply(ASKED, [], list(SPECS.values())).tool_calls == [ToolCall(name="lbc_classify")]
    assert len(chat_server.requests) == 1


def test_an_answer_streams(chat_server: ChatServer) -> None:
    chat_server.answer = says('{"tools": []}', "Five cells.")
    pieces = list(brain(chat_server).stream(ASKED, [], list(SPECS.values())))
    assert pieces == ["Five ", "cells. ", Turn(role="assistant", content="Five cells.")]
    assert chat_server.requests[1]["messages"][-1]["content"].startswith("Answer the person now")


def test_without_tools_it_answers_at_once(chat_server: ChatServer) -> None:
    chat_server.answer = says("Five.")
    assert brain(chat_server).reply(ASKED, [], []).content == "Five."
    assert "No tools are left" in chat_server.requests[0]["messages"][0]["content"]


def test_a_tool_is_not_offered_twice_for_one_question(chat_server: ChatServer) -> None:
    turns = [
        *ASKED,
        Turn(role="assistant", tool_calls=[ToolCall(name="ki67_cells")]),
        Turn(role="tool", tool="ki67_cells", content="20 %."),
    ]
    chat_server.answer = says('{"tools": ["ki67_cells"]}', "20 %.")
    assert brain(chat_server).reply(turns, [], list(SPECS.values())).content == "20 %."
    assert "ki67_cells" not in schema_of(chat_server.requests[0])["properties"]["tools"]["items"]["enum"]
    chat_server.answer = says('{"tools": ["ki67_cells"]}', "{}")
    again = [*turns, Turn(role="assistant", content="20 %."), *ASKED]
    assert brain(chat_server).reply(again, [], list(SPECS.values())).tool_calls[0].name == "ki67_cells"


@pytest.mark.parametrize(
    ("given", "call"), [('{"um_per_px": 0', ToolCall(name=UNREADABLE)), ('{"um_per_px": 0.5', ToolCall(name=UNREADABLE))]
)
def test_arguments_that_break_off_are_unreadable(chat_server: ChatServer, given: str, call: ToolCall) -> None:
    chat_server.answer = says('{"tools": ["ki67_cells"]}', given)
    assert brain(chat_server).reply(ASKED, [], list(SPECS.values())).tool_calls == [call]


def test_what_does_not_fit_is_shortened_and_at_last_refused(chat_server: ChatServer) -> None:
    room = 30_000

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        if len(json.dumps(body["messages"])) > room:
            return 400, {"error": "too long"}
        return says('{"tools": []}' if not body.get("stream") else "Short.")(body)

    chat_server.answer = answer
    long = [
        *ASKED,
        Turn(role="assistant", tool_calls=[ToolCall(name="papers_search")]),
        Turn(role="tool", tool="papers_search", content="word " * 6000),
    ]
    turns = [*long, Turn(role="assistant", content="So."), *long]
    assert brain(chat_server).reply(turns, [], list(SPECS.values())).content == "Short."
    room = 10
    with pytest.raises(BadInput, match="does not fit"):
        brain(chat_server).reply(turns, [], list(SPECS.values()))


def test_an_engine_that_fails_is_unreachable(chat_server: ChatServer) -> None:
    chat_server.answer = lambda body: (500, {})
    for tools in (list(SPECS.values()), []):
        with pytest.raises(Unreachable):
            brain(chat_server).reply(ASKED, [], tools)


@pytest.mark.parametrize("offered", [list(SPECS), ["ki67_cells"], ["look", "papers_search"]])
def test_examples_show_only_what_is_on_offer(offered: list[str]) -> None:
    said = dialogue(ASKED, [SPECS[name] for name in offered], 1000)
    assert [m["role"] for m in said[1:]] == ["user", "assistant"] * ((len(said) - 2) // 2) + ["user"]
    shown = {
        name
        for m in said[1:]
        if m["role"] == "assistant" and '"tools"' in m["content"]
        for name in json.loads(m["content"])["tools"]
    }
    assert shown <= set(offered)
    assert said[-1]["content"] == ASKED[0].content


def test_every_tool_has_an_example() -> None:
    assert {name for _, _, names in EXAMPLES for name in names} == set(SPECS)


def test_results_are_data_and_are_cut() -> None:
    turns = [
        *ASKED,
        Turn(
            role="assistant",
            tool_calls=[ToolCall(name="ki67_cells", arguments={"um_per_px": 0.5}), ToolCall(name="papers_search")],
        ),
        Turn(role="tool", tool="ki67_cells", content="Index 20 %."),
        Turn(role="tool", tool="papers_search", content="word " * 500),
    ]
    last = dialogue(turns, [], 200)[-1]
    assert last["role"] == "user"
    assert last["content"].count("<tool_output") == 2
    assert '"um_per_px": 0.5' in last["content"]
    assert "… (cut)" in last["content"]


def test_arguments_are_explained() -> None:
    text = arguments_asked(SPECS["lbc_generate"])
    assert "- cell_class: one of NILM, ASC-US, LSIL" in text
    assert "- hyperchromasia (only if the person says so): true or false. Dark nucleus." in text
    assert "list of [x, y]" in arguments_asked(SPECS["segment"])


def test_names_stay_and_bounds_go() -> None:
    schema = {"type": "object", "title": "T", "properties": {"title": {"type": "string", "maxLength": 9, "default": "x"}}}
    assert for_grammar(schema) == {"type": "object", "properties": {"title": {"type": "string"}}, "additionalProperties": False}


def test_a_real_engine_keeps_to_the_schema() -> None:
    """SmolLM2-135M was never taught tools: it still names only tools that exist, because decoding is constrained."""
    pytest.importorskip("xllamacpp")
    if not weights.present("smollm2-135m"):
        pytest.skip("the weights smollm2-135m are not here: pathasst models pull smollm2-135m")
    real = LlamaCppBrain.open(BrainSettings(kind="llamacpp", model="smollm2-135m", sees=False, seconds=400), threads=1)
    chosen = json.loads(real._write([{"role": "user", "content": "Find papers."}], choice_schema(list(CLASSES)), 60))
    assert set(chosen["tools"]) <= set(CLASSES)
    given = json.loads(real._write([{"role": "user", "content": "0.5 µm"}], for_grammar(SPECS["ki67_cells"].parameters), 60))
    assert set(given) <= {"um_per_px", "min_score"}
    words = list(real.transport.stream({"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5}))
    assert words
    assert real.name.startswith("smollm2-135m@")
