"""The port is open at once; page and models come behind it, and the server says so."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from server_parts import RuleBrain, running

from pathasst.assistant.brain import parse_brain
from pathasst.assistant.brains.local import Later, LocalBrain
from pathasst.core.errors import BadSettings
from pathasst.serve.starting import Starting
from pathasst.tools.protocol import Registry


@contextmanager
def serving(app: Any) -> Iterator[tuple[str, uvicorn.Server]]:
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", server
    finally:
        server.should_exit = True
        thread.join(10)
        listening.close()


def until(wanted: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not wanted():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_what_is_not_there_yet_is_told_and_then_is_there() -> None:
    go, calls = threading.Event(), []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> Any:
        calls.append("opened")
        yield
        calls.append("closed")

    def build() -> FastAPI:
        app = FastAPI(lifespan=lifespan)
        app.get("/ready")(lambda: {"status": "ready"})
        go.wait(60)
        return app

    with serving(Starting(build, calls.append, lambda: calls.append("begun"))) as (url, _):
        page = httpx.get(url)
        assert page.status_code == 200 and "models are loading" in page.text and 'http-equiv="refresh"' in page.text
        assert httpx.get(f"{url}/health").json() == {"status": "ok"}
        for path in ("/ready", "/v1/models"):
            refused = httpx.get(url + path)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
        assert refused.json()["error"]["code"] == "loading"
        assert httpx.head(f"{url}/ready").status_code == 503
        go.set()
        until(lambda: httpx.get(f"{url}/ready").status_code == 200)
        assert calls == ["opened", "begun"]
    assert calls == ["opened", "begun", "closed"]


def test_what_cannot_be_built_is_told_to_the_command() -> None:
    failures: list[Exception] = []

    def build() -> FastAPI:
        raise BadSettings("no model")

    with serving(Starting(build, failures.append)) as (url, _):
        until(lambda: bool(failures))
        assert httpx.get(f"{url}/ready").status_code == 503
    assert str(failures[0]) == "no model"


def test_ready_waits_for_the_models(tmp_path: Path) -> None:
    class Slow(RuleBrain):
        go = threading.Event()

        def load(self) -> None:
            self.go.wait(60)

    with running(tmp_path, Registry(), Slow()) as server:
        assert httpx.get(f"{server.url}/ready").status_code == 200  # nobody has asked for the models
        warming = threading.Thread(target=server.service.warm)
        warming.start()
        until(lambda: httpx.get(f"{server.url}/ready").status_code == 503)
        assert httpx.get(f"{server.url}/ready").json()["error"]["code"] == "loading"
        Slow.go.set()
        warming.join()
        assert httpx.get(f"{server.url}/ready").json() == {"status": "ready"}


def test_a_missing_model_is_an_error_at_the_start_and_a_damaged_one_when_it_is_loaded(tmp_path: Path) -> None:
    brain = LocalBrain.open(parse_brain("pathasst"))
    assert isinstance(brain.router, Later) and not brain.router.loaded  # opened, not loaded
    with pytest.raises(BadSettings):
        LocalBrain.open(parse_brain("pathasst:none-of-that-name"))
    broken = tmp_path / "broken"
    broken.mkdir()
    from pathasst.assistant.brains.settings import BrainSettings

    with pytest.raises(Exception, match="config"):
        LocalBrain.open(BrainSettings(router=str(broken))).load()
