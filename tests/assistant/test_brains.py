"""Which brain a setting means, messages to and from a chat API, and the remote brain against a real server on loopback."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
from assistant_parts import ChatServer, call, message
from PIL import Image
from pydantic import TypeAdapter

from pathasst.assistant import BrainSettings, ask, open_brain, parse_brain
from pathasst.assistant.agent import Event
from pathasst.assistant.brains.messages import to_messages, to_tools, to_turn
from pathasst.assistant.brains.remote import RemoteBrain
from pathasst.assistant.repair import UNREADABLE
from pathasst.core.errors import BadSettings, Unreachable
from pathasst.core.records import Attachment, ToolCall, Turn
from pathasst.imaging.pictures import encode_png
from pathasst.tools.protocol import Registry
from pathasst.tools.registry import all_specs


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("pathasst", ("pathasst", "pathasst-embedded", "", True)),
        ("pathasst:/models/mine", ("pathasst", "/models/mine", "", True)),
        ("http://host:8000/v1#qwen-vl", ("openai", "qwen-vl", "http://host:8000/v1", True)),
        ("https://host/v1/#org/model,blind", ("openai", "org/model", "https://host/v1", False)),
        ("llamacpp", ("llamacpp", "qwen2.5-coder-1.5b", "", False)),
    ],
)
def test_one_setting_chooses_the_brain(setting: str, expected: tuple[str, str, str, bool]) -> None:
    settings = parse_brain(setting)
    assert (settings.kind, settings.model, settings.url, settings.sees) == expected


@pytest.mark.parametrize(
    ("setting", "router"),
    [("pathasst", "router-embedded"), ("pathasst:/models/mine", ""), ("pathasst:/models/mine,router", "router-embedded")],
)
def test_a_model_of_ones_own_chooses_its_tools_itself_unless_the_router_is_asked_for(setting: str, router: str) -> None:
    """A random LLM once scored 1.000 in tool choice: the shipped router had chosen."""
    assert parse_brain(setting).chooses_tools == router


def test_stops_are_sent_to_the_server(chat_server: ChatServer, spots: np.ndarray, registry: Registry) -> None:
    """A server of the paper's template writes on after its answer, else: the next "User:" stood in it."""
    chat_server.answer = lambda body: (200, message("Glands."))
    ask(spots, "What is this?", brain=parse_brain(f"{chat_server.url}#text,blind,stop=###"), registry=registry)
    assert [r.get("stop") for r in chat_server.requests] == [["###"]]
    ask(spots, "What is this?", brain=parse_brain(f"{chat_server.url}#text,blind"), registry=registry)
    assert "stop" not in chat_server.requests[-1]


@pytest.mark.parametrize("setting", ["", "gpt", "pathasst:m,chooser", "http://host/v1", "http://host/v1#m,deaf", "ftp://x#y"])
def test_other_settings_are_refused(setting: str) -> None:
    with pytest.raises(BadSettings):
        parse_brain(setting)


@pytest.mark.parametrize("values", [{"kind": "x"}, {"kind": "openai"}, {"max_tokens": 0}, {"seconds": 0}])
def test_settings_are_checked(values: dict[str, Any]) -> None:
    with pytest.raises(BadSettings):
        BrainSettings(**values)


def test_messages_pair_results_with_calls_and_mark_them_as_data() -> None:
    turns = [
        Turn(role="user", content="<image>\nCount."),
        Turn(role="assistant", tool_calls=[ToolCall(name="a", arguments={"x": 1}, id="c1"), ToolCall(name="b", id="c2")]),
        Turn(role="tool", tool="a", content="5"),
        Turn(role="tool", tool="b", content="6"),
        Turn(role="assistant", content="Five."),
    ]
    messages = to_messages(turns, [encode_png(np.zeros((20, 30, 3), np.uint8))])
    assert [m["role"] for m in messages] == ["system", "user", "assistant", "tool", "tool", "assistant"]
    assert [m["tool_call_id"] for m in messages[3:5]] == ["c1", "c2"]
    assert messages[3]["content"] == '<tool_output tool="a">\n5\n</tool_output>'
    assert json.loads(messages[2]["tool_calls"][0]["function"]["arguments"]) == {"x": 1}
    picture, size, words = messages[1]["content"]
    assert picture["image_url"]["url"].startswith("data:image/png;base64,")
    assert size["text"] == "(30×20 px)"
    assert words["text"] == "Count."


def test_requests_have_the_form_of_openais_own_client() -> None:
    """vLLM and others check a request by these types: messages, parts with pictures, tools."""
    chat = pytest.importorskip("openai.types.chat")
    from pathasst.tools.zoom import Zoom

    picture = encode_png(np.zeros((20, 30, 3), np.uint8))
    turns = [
        Turn(role="user", content="<image>\nCount.", attachments=[Attachment(handle="image1")]),
        Turn(role="assistant", tool_calls=[ToolCall(name="zoom", arguments={"box": [0, 0, 1, 1]}, id="c1")]),
        Turn(role="tool", tool="zoom", content="<image>\nA region.", attachments=[Attachment(handle="image2")]),
        Turn(role="assistant", content="Five."),
    ]
    messages = to_messages(turns, [picture, picture])
    TypeAdapter(list[chat.ChatCompletionMessageParam]).validate_python(messages)
    of_person = [m["content"] for m in messages if m["role"] == "user"]
    assert [len(TypeAdapter(list[chat.ChatCompletionContentPartParam]).validate_python(parts)) for parts in of_person] == [3, 3]
    TypeAdapter(list[chat.ChatCompletionToolParam]).validate_python(to_tools([Zoom.spec(), *all_specs()]))


def test_large_pictures_are_sent_reduced() -> None:
    messages = to_messages([Turn(role="user", content="<image>")], [encode_png(np.zeros((1000, 4096, 3), np.uint8))])
    parts = messages[1]["content"]
    sent = Image.open(io.BytesIO(base64.b64decode(parts[0]["image_url"]["url"].split(",")[1])))
    assert sent.size == (2048, 500)
    assert parts[1]["text"] == "(4096×1000 px, shown reduced)"


@pytest.mark.parametrize(
    ("arguments", "name", "given"),
    [
        ('{"threshold": 5}', "count_dark", {"threshold": 5}),
        ("{'threshold': 5,}", "count_dark", {"threshold": 5}),
        ({"threshold": 5}, "count_dark", {"threshold": 5}),
        ("", "count_dark", {}),
        ("five", UNREADABLE, {}),
        ("[1]", UNREADABLE, {}),
        (7, UNREADABLE, {}),
    ],
)
def test_a_servers_message_becomes_a_turn(arguments: Any, name: str, given: dict[str, Any]) -> None:
    raw = {"content": None, "tool_calls": [{"id": "x", "function": {"name": "count_dark", "arguments": arguments}}]}
    turn = to_turn(raw)
    assert turn.content == ""
    assert [(c.name, c.arguments, c.id) for c in turn.tool_calls] == [(name, given, "x")]


def test_content_in_parts_is_read() -> None:
    assert to_turn({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}).content == "ab"


def test_the_whole_loop_over_http(chat_server: ChatServer, spots: np.ndarray, registry: Registry, monkeypatch: Any) -> None:
    """A scripted model behind real HTTP: looks, calls two tools, uses the picture one made, cites, and invents a PMID."""
    monkeypatch.setenv("PATHASST_API_KEY", "secret")

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        results = [m for m in body["messages"] if m["role"] == "tool"]
        if not results:
            return 200, message("", call("count_dark"), call("papers_search", query="Ki67 prognosis"))
        if len(results) == 2:
            return 200, message("", ToolCall(name="red_share", arguments={"image": "image2"}, id="c9"))
        return 200, message("5 spots. High Ki67 is bad [PMID 11111111], [PMID 12121212].")

    chat_server.answer = answer
    brain = open_brain(f"{chat_server.url}#scripted-vl")
    got = ask(spots, "How many, and what does it mean?", brain=brain, registry=registry)
    assert [s.call.name for s in got.steps] == ["count_dark", "papers_search", "red_share"]
    assert got.steps[2].image == "image2"
    assert got.text == "5 spots. High Ki67 is bad [PMID 11111111], ~~[PMID 12121212]~~."
    assert got.brain == f"scripted-vl at {chat_server.url}"
    first = chat_server.requests[0]
    assert first["model"] == "scripted-vl"
    assert {t["function"]["name"] for t in first["tools"]} == set(registry.tools)
    assert any(p["type"] == "image_url" for p in first["messages"][1]["content"])
    assert all(h["Authorization"] == "Bearer secret" for h in chat_server.headers)
    assert "secret" not in json.dumps(got.to_json())


def test_a_blind_brain_is_told_of_the_picture_and_gets_none(
    chat_server: ChatServer, spots: np.ndarray, registry: Registry
) -> None:
    chat_server.answer = lambda body: (200, message("I cannot see it."))
    ask(spots, "What is this?", brain=parse_brain(f"{chat_server.url}#text,blind"), registry=registry)
    words = chat_server.requests[0]["messages"][1]["content"]
    assert isinstance(words, str)
    assert "image1" in words
    assert "cannot see" in words


def test_a_busy_server_is_asked_again(chat_server: ChatServer, registry: Registry) -> None:
    replies = [(429, {"error": "busy"}), (503, {}), (200, message("Here."))]
    chat_server.answer = lambda body: replies.pop(0)
    assert ask(None, "Hello?", brain=f"{chat_server.url}#busy", registry=registry).text == "Here."


@pytest.mark.parametrize(
    ("status", "body", "reason", "requests"),
    [
        (400, {"error": "no such model"}, "no such model", 2),  # it might have refused the stream alone
        (401, {"error": "key"}, "401", 1),
        (302, {}, "302", 1),
        (200, "not json", "3 tries", 4),
        (200, {"choices": []}, "3 tries", 4),
        (200, {"choices": [{"message": {}}]}, "3 tries", 4),
    ],
)
def test_a_servers_failure_says_why(
    status: int, body: Any, reason: str, requests: int, chat_server: ChatServer, registry: Registry
) -> None:
    chat_server.answer = lambda _: (status, body)
    with pytest.raises(Unreachable, match=reason):
        ask(None, "Hello?", brain=f"{chat_server.url}#m{status}", registry=registry)
    assert len(chat_server.requests) == requests


def test_no_server_is_unreachable(registry: Registry) -> None:
    with pytest.raises(Unreachable, match="Check that the server runs"):
        ask(None, "Hello?", brain="http://127.0.0.1:9/v1#nobody", registry=registry)


def test_tools_travel_as_json_schema(registry: Registry) -> None:
    tools = {t["function"]["name"]: t["function"] for t in to_tools(registry.offered())}
    assert tools["count_dark"]["parameters"]["properties"]["threshold"]["maximum"] == 255


def chunks(*deltas: dict[str, Any]) -> str:
    """A stream as OpenAI-compatible servers write it."""
    return "".join(f"data: {json.dumps({'choices': [{'index': 0, 'delta': d}]})}\n\n" for d in deltas) + "data: [DONE]\n\n"


def streamed(chat_server: ChatServer, registry: Registry, thinks_first: bool | None = False) -> list[str | Turn]:
    brain = open_brain(f"{chat_server.url}#text,blind")
    assert isinstance(brain, RemoteBrain)
    brain.habit.thinks_first = thinks_first
    return list(brain.stream([Turn(role="user", content="How many?")], [], registry.offered()))


def test_a_servers_words_come_as_it_makes_them(chat_server: ChatServer, registry: Registry) -> None:
    deltas = (
        {"role": "assistant", "content": None},
        {"reasoning_content": "Let me count."},
        {"content": "Five "},
        {"content": "cells."},
    )
    chat_server.answer = lambda body: (200, chunks(*deltas) if body.get("stream") else message("not asked"))
    turn = Turn(role="assistant", content="Five cells.", thoughts="Let me count.")
    assert streamed(chat_server, registry) == ["Five ", "cells.", turn]
    assert len(chat_server.requests) == 1


def test_thoughts_that_begin_in_the_prompt_are_never_shown(chat_server: ChatServer, registry: Registry) -> None:
    deltas = ({"content": "Are there "}, {"content": "five? </think>"}, {"content": "Five."})
    chat_server.answer = lambda body: (200, chunks(*deltas))
    turn = Turn(role="assistant", content="Five.", thoughts="Are there five?")
    assert streamed(chat_server, registry, thinks_first=None) == ["Five.", turn]
    assert streamed(chat_server, registry, thinks_first=True) == ["Five.", turn]
    chat_server.answer = lambda body: (200, chunks({"content": "Five "}, {"content": "cells."}))
    brain = open_brain(f"{chat_server.url}#text,blind")
    assert isinstance(brain, RemoteBrain)
    said = [[p for p in brain.stream([Turn(role="user", content="?")], [], []) if isinstance(p, str)] for _ in range(2)]
    assert said == [["Five cells."], ["Five ", "cells."]]  # the first reply shows that this model has no such thoughts


def test_a_call_in_pieces_is_put_together(chat_server: ChatServer, registry: Registry) -> None:
    def part(arguments: str, **first: str) -> dict[str, Any]:
        function = {"arguments": arguments, **({"name": first["name"]} if first else {})}
        return {"tool_calls": [{"index": 0, "function": function, **({"id": "c9", "type": "function"} if first else {})}]}

    chat_server.answer = lambda body: (200, chunks(part("", name="count_dark"), part('{"thres'), part('hold": 50}')))
    calls = [ToolCall(name="count_dark", arguments={"threshold": 50}, id="c9")]
    assert streamed(chat_server, registry) == [Turn(role="assistant", tool_calls=calls)]


def test_a_call_left_in_the_text_is_not_shown(chat_server: ChatServer, registry: Registry) -> None:
    chat_server.answer = lambda body: (
        200,
        chunks({"content": '<tool_call>{"name": "count_dark",'}, {"content": ' "arguments": {}}</tool_call>'}),
    )
    assert [p for p in streamed(chat_server, registry) if isinstance(p, str)] == []


def test_a_server_that_does_not_stream_is_asked_plainly(chat_server: ChatServer, registry: Registry) -> None:
    refusal = {"error": {"message": "Cannot use tools with stream"}}
    chat_server.answer = lambda body: (400, refusal) if body.get("stream") else (200, message("Five."))
    assert streamed(chat_server, registry) == [Turn(role="assistant", content="Five.")]
    chat_server.answer = lambda body: (200, message("Six."))  # takes the word and does not stream
    assert streamed(chat_server, registry) == ["Six.", Turn(role="assistant", content="Six.")]


def test_a_stream_that_breaks_off_is_no_answer(chat_server: ChatServer, registry: Registry) -> None:
    broken = chunks({"content": "Five "}).replace("data: [DONE]", 'data: {"error": {"message": "out of memory"}}')
    chat_server.answer = lambda body: (200, broken)
    with pytest.raises(Unreachable, match="out of memory"):
        streamed(chat_server, registry)
    assert len(chat_server.requests) == 1


@pytest.mark.parametrize(
    ("grounded", "shown"),
    [(False, "There are five. I counted them twice."), ("auto", "I cannot tell what they are. The tool was run twice.")],
)
def test_the_sentences_that_stand_are_shown_as_they_come(
    chat_server: ChatServer, registry: Registry, grounded: Any, shown: str
) -> None:
    """Where each sentence needs a source, those without are never shown; what is shown is the answer."""
    pieces = ["There are fi", "ve. I counted them twice."] if grounded is False else [
        "There are five. I cannot ", "tell what they are. They are malig", "nant. The tool was run twice."
    ]  # fmt: skip
    chat_server.answer = lambda body: (200, chunks(*({"content": p} for p in pieces)))
    events: list[Event] = []
    brain = parse_brain(f"{chat_server.url}#text,blind").model_copy(update={"grounded": grounded})
    answer = ask(None, "How many?", brain=brain, registry=registry, on_event=events.append)
    assert "".join(e.text for e in events if e.kind == "text") == shown == answer.text
    assert sum(e.kind == "text" for e in events) == 2
