"""What a reasoning model thinks is kept apart from what it says, in every form that servers use; slow and endless servers end."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from pathasst.core.errors import Unreachable
from pathasst.llm import transport
from pathasst.llm.settings import LLMSettings
from pathasst.llm.thoughts import Stream, apart, ends_alone, split
from pathasst.llm.transport import Transport


@pytest.mark.parametrize(
    ("message", "thoughts", "content"),
    [
        ({"content": "Yes."}, "", "Yes."),
        ({"content": "<think>No necrosis.</think>\n\nYes."}, "No necrosis.", "Yes."),
        ({"content": "No necrosis.\n</think>\nYes."}, "No necrosis.", "Yes."),
        ({"content": "<think>cut off"}, "cut off", ""),
        ({"content": "Yes.", "reasoning_content": "No necrosis."}, "No necrosis.", "Yes."),
        ({"content": None, "reasoning": "No necrosis."}, "No necrosis.", ""),
        ({"content": [{"type": "text", "text": "Yes"}, {"type": "text", "text": "."}]}, "", "Yes."),
        ({"content": "<think>a</think>Yes <think>b</think>indeed."}, "a\nb", "Yes indeed."),
        ({"content": "x < y > z"}, "", "x < y > z"),
        ({"content": "<think>a <think>b</think> c</think>Yes."}, "a\nb\nc", "Yes."),
        ({"content": "<think>\n<think>a</think>Yes.</think>"}, "a", "Yes."),
        ({"content": "The mark `<think>` opens it."}, "", "The mark `<think>` opens it."),
        ({"content": "<think>a</think><answer>B</answer>"}, "a", "B"),
        ({"content": "It has no necrosis. <answer>B</answer>"}, "It has no necrosis.", "B"),
        (
            {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "a"}]}, {"type": "text", "text": "B"}]},
            "a",
            "B",
        ),
        ({"content": [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "a"}]}, {"text": "B"}]}, "a", "B"),
        ({"content": "B", "reasoning_details": [{"type": "reasoning.text", "text": "a"}], "reasoning": "a"}, "a", "B"),
        ({"content": None, "thinking": "a"}, "a", ""),
        ({"content": None, "refusal": "I cannot."}, "", "I cannot."),
    ],
)
def test_thoughts_are_kept_apart(message: dict[str, Any], thoughts: str, content: str) -> None:
    assert apart(message) == (thoughts, content)


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_a_stream_shows_what_is_said_alone(size: int) -> None:
    text, stream = "<think>secret</think>Yes <b>and</b> <th", Stream()
    shown = "".join(stream.add(text[n : n + size]) for n in range(0, len(text), size)) + stream.close()
    assert shown == "Yes <b>and</b> <th"
    assert split(text)[0] == "secret"


@pytest.mark.parametrize(
    ("opens", "closes"),
    [
        ("<thinking>", "</thinking>"),
        ("<Think>\n", "\n</Think>\n\n"),
        ("<thought>", "</thought>"),
        ("<seed:think>", "</seed:think>"),
        ("[THINK]", "[/THINK]"),
        ("◁think▷", "◁/think▷"),
        ("<|START_THINKING|>", "<|END_THINKING|><|START_RESPONSE|>"),
        ("<unused94>thought\n", "<unused95>"),
        ("<|begin_of_thought|>", "<|end_of_thought|><|begin_of_solution|>"),
        ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
        ("analysis", "assistantfinal"),
    ],
)
def test_every_family_of_marks_is_read_whole_and_streamed(opens: str, closes: str) -> None:
    text = f"{opens}No necrosis.{closes}Yes."
    assert split(text) == ("No necrosis.", "Yes.")
    for size in (1, 3, 100):
        stream = Stream()
        shown = "".join(stream.add(text[n : n + size]) for n in range(0, len(text), size)) + stream.close()
        assert shown.strip() == "Yes."
    if opens != "analysis":
        assert split(text.removeprefix(opens))[1] == "Yes."  # its beginning stood in the prompt
        assert ends_alone(text.removeprefix(opens)) and not ends_alone(text)


@pytest.fixture
def server() -> Iterator[Any]:
    """A chat server whose replies a test writes byte by byte."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            try:
                for part in state.parts():
                    self.wfile.write(part)
            except OSError:
                pass

        def log_message(self, *args: Any) -> None:
            pass

    class State:
        parts: Any = staticmethod(lambda: iter(()))

    state = State()
    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{made.server_port}/v1"  # type: ignore[attr-defined]
    threading.Thread(target=made.serve_forever, args=(0.02,), daemon=True).start()
    yield state
    made.shutdown()
    made.server_close()


def asked(server: Any, **more: Any) -> Transport:
    return Transport(LLMSettings(base_url=server.url, model="m", backoff=0.0, **more), server.url)


def test_a_server_that_drips_is_left_when_the_time_for_its_whole_reply_is_over(server: Any) -> None:
    def drip() -> Iterator[bytes]:
        for _ in range(600):
            yield b" "
            time.sleep(0.05)

    server.parts = drip
    with pytest.raises(Unreachable, match="no whole answer within"):
        asked(server, timeout=0.5).post({})


def test_an_endless_reply_is_not_read_to_its_end(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MOST_BYTES", 2**20)
    sent = []

    def pour() -> Iterator[bytes]:
        for _ in range(1000):
            sent.append(1)
            yield b" " * 2**16

    server.parts = pour
    with pytest.raises(Unreachable, match="more than 1 MB"):
        asked(server).post({})
    assert len(sent) < 1000


def test_a_reply_that_nobody_waits_for_is_left(server: Any) -> None:
    server.parts = lambda: (b" " for _ in range(10))
    with pytest.raises(Unreachable, match="nobody waits"):
        asked(server).post({}, left=lambda: True)


@pytest.mark.parametrize(
    ("message", "content"),
    [
        ({"content": [{"type": "text", "text": "In parts."}]}, "In parts."),
        ({"content": "a\ud800b"}, "a?b"),
        ({"content": None, "reasoning_content": "only thoughts"}, ""),
    ],
)
def test_odd_replies_are_taken(server: Any, message: dict[str, Any], content: str) -> None:
    server.parts = lambda: iter([json.dumps({"choices": [{"message": message}]}).encode()])
    body, tries = asked(server).post({})
    assert (body["choices"][0]["message"]["content"], tries) == (content, 1)


@pytest.mark.parametrize(
    ("message", "calls"),
    [
        ({"function_call": {"name": "a", "arguments": "{}"}}, [("a", "{}")]),
        ({"tool_calls": {"id": "1", "function": {"name": "a", "arguments": "{}"}}}, [("a", "{}")]),
        ({"tool_calls": [{"name": "a", "parameters": "{}"}]}, [("a", "{}")]),
        (
            {"tool_calls": [{"index": 0, "id": n, "function": {"name": n, "arguments": "{}"}} for n in "ab"]},  # each numbered 0
            [("a", "{}"), ("b", "{}")],
        ),
    ],
)
def test_calls_in_other_forms_are_streamed_whole(server: Any, message: dict[str, Any], calls: list[tuple[str, str]]) -> None:
    for key in ("delta", "message"):  # some servers stream whole messages
        server.parts = lambda key=key: iter([f"data: {json.dumps({'choices': [{key: message}]})}\n\n".encode()])
        whole: Any = list(asked(server).stream({}))[-1]
        assert [(c["function"]["name"], c["function"]["arguments"]) for c in whole["tool_calls"]] == calls


def test_a_stream_in_parts_is_no_empty_answer(server: Any) -> None:
    deltas = [
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "a"}]}]},
        {"content": [{"type": "text", "text": "B"}]},
    ]
    server.parts = lambda: (f"data: {json.dumps({'choices': [{'delta': d}]})}\n\n".encode() for d in deltas)
    whole: Any = list(asked(server).stream({}))[-1]
    assert (whole["content"], whole["reasoning_content"]) == ("B", "a")
