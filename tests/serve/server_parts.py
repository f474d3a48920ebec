"""A real uvicorn on a loopback port around a real Service, with a small brain that follows rules."""

from __future__ import annotations

import base64
import contextlib
import socket
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn

from pathasst.assistant.grounding import Grounding
from pathasst.assistant.settings import AssistantSettings, ServeSettings
from pathasst.core.records import ToolCall, Turn
from pathasst.serve.api import create_app
from pathasst.serve.service import Service
from pathasst.tools.protocol import Registry


@dataclass
class RuleBrain:
    """Counts when asked to count, searches when asked for papers, waits when asked to wait; says what its tools found.

    It streams word by word, and answers several requests at once.
    """

    name: str = "rules@1"
    sees: bool = True
    grounding: Grounding = Grounding.MARKED  # its rules are no knowledge; checks have tests of their own
    hold: threading.Event = field(default_factory=threading.Event)  # "wait" waits for it between two words
    batches: list[int] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)  # a stream was left before its end
    given: list[list[Turn]] = field(default_factory=list)
    images: list[list[bytes]] = field(default_factory=list)

    def reply(self, turns: Sequence[Turn], images: Sequence[bytes], tools: Sequence[Any]) -> Turn:
        self.given.append(list(turns))
        self.images.append(list(images))
        last, names = turns[-1], {t.name for t in tools}
        if last.role == "tool":
            return Turn(role="assistant", content=f"The tool said: {last.content} See [PMID 11111111] and [PMID 99999999].")
        words = last.content.lower()
        calls = []
        if "count" in words and "count_dark" in names:
            calls.append(ToolCall(name="count_dark", arguments={"threshold": 100}))
        if "measure" in words and "scaled" in names:
            calls.append(ToolCall(name="scaled"))
        if "papers" in words and "papers_search" in names:
            calls.append(ToolCall(name="papers_search", arguments={"query": "Ki67"}))
        if "weather" in words and "get_weather" in names:
            calls.append(ToolCall(name="get_weather", arguments={"city": "Bern"}))
        if calls:
            return Turn(role="assistant", tool_calls=calls)
        questions = sum(t.role == "user" for t in turns)
        return Turn(
            role="assistant",
            content=f"Question {questions}, {len(images)} pictures. It was: {last.content.split('>')[-1].strip()}",
        )

    def stream(self, turns: Sequence[Turn], images: Sequence[bytes], tools: Sequence[Any]) -> Generator[str | Turn, None, None]:
        turn = self.reply(turns, images, tools)
        finished = False
        try:
            if "wait" in turns[-1].content:
                for n in range(400):
                    yield f"Word {n}. "
                    if self.hold.wait(0.05):
                        break
            for word in turn.content.split(" "):
                yield f"{word} "
            finished = True
            yield turn
        finally:
            if not finished:
                self.stopped.set()

    def reply_many(self, requests: Sequence[tuple[Any, Any, Any]]) -> list[Turn]:
        self.batches.append(len(requests))
        return [self.reply(*request) for request in requests]

    def count_tokens(self, text: str) -> int:
        return len(text.split())


def settings(home: Path, **serve: Any) -> AssistantSettings:
    """Settings that keep everything below `home`."""
    return AssistantSettings(serve=ServeSettings(home=home, **{"per_minute": 0, "drain_seconds": 5.0, **serve}))


@dataclass
class Running:
    """A server that runs, and what is inside of it."""

    url: str
    service: Service
    brain: Any
    server: uvicorn.Server

    @property
    def v1(self) -> str:
        return f"{self.url}/v1"


@contextlib.contextmanager
def running(home: Path, registry: Registry, brain: Any = None, page: bool = False, **serve: Any) -> Iterator[Running]:
    """The application on a free port, with the page or without; stopped at the end."""
    brain = brain or RuleBrain()
    service = Service(settings(home, **serve), brain=brain, registry=registry)
    app = create_app(service=service, page=page)
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5, root_path=serve.get("root_path", ""))
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield Running(f"http://127.0.0.1:{listening.getsockname()[1]}", service, brain, server)
    finally:
        getattr(brain, "hold", threading.Event()).set()
        server.should_exit = True
        thread.join(10)
        listening.close()


def data_url(png: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(png).decode()}"
