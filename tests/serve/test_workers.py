"""`--workers`: real worker processes behind a real front on loopback."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
import worker_builds
from server_parts import settings

from pathasst.core.errors import BadSettings
from pathasst.imaging.pictures import encode_png
from pathasst.serve.front import COOKIE, Users, create_front
from pathasst.serve.keys import ADMIN, KEYS, KeyStore
from pathasst.serve.workers import DOWN, LOADING, Workers, share


@dataclass
class Front:
    """A front that runs, with the keys of three people."""

    url: str
    workers: Workers
    keys: dict[str, str]

    def client(self, name: str = "", **headers: str) -> httpx.Client:
        given = {"Authorization": f"Bearer {self.keys[name]}"} if name else {}
        return httpx.Client(base_url=self.url, headers={**given, **headers}, timeout=60, verify=False)


def until(wanted: Callable[[], Any]) -> None:
    end = time.monotonic() + 120
    while not wanted():
        assert time.monotonic() < end
        time.sleep(0.02)


@contextmanager
def fronted(home: Path, **serve: Any) -> Iterator[Front]:
    store = KeyStore(home / KEYS)
    keys = {name: store.add(name, *role)[1] for name, role in (("anna", ()), ("bert", ()), ("eve", (ADMIN,)))}
    workers = Workers(2, partial(worker_builds.small, home, **serve))
    app = create_front(settings(home, **serve).serve, workers)
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=5))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield Front(f"http://127.0.0.1:{listening.getsockname()[1]}", workers, keys)
    finally:
        server.should_exit = True
        thread.join(30)
        listening.close()


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with fronted(tmp_path_factory.mktemp("front"), keys_required=True, body_bytes=2**20) as running:
        until(lambda: all(worker.state == "ready" for worker in running.workers))
        yield running


def process_of(web: httpx.Client) -> int:
    """Which process answers."""
    models = web.get("/v1/models").raise_for_status().json()["data"]
    return next(int(m["id"].removeprefix("rules@")) for m in models if m["id"].startswith("rules@"))


def ask(web: httpx.Client, *messages: str) -> str:
    roles = ("user", "assistant")
    turns = [{"role": roles[n % 2], "content": words} for n, words in enumerate(messages)]
    answer = web.post("/v1/chat/completions", json={"messages": turns}).raise_for_status()
    return answer.json()["choices"][0]["message"]["content"]


def test_each_user_has_one_process(front: Front) -> None:
    with front.client("anna") as anna, front.client("bert") as bert:
        assert len({process_of(anna) for _ in range(4)}) == len({process_of(bert) for _ in range(4)}) == 1
        assert process_of(anna) != process_of(bert)
        first = ask(anna, "Hello")
        assert "Question 2" in ask(anna, "Hello", first, "And?")
        picture = {"file": ("a.png", encode_png(np.full((8, 8, 3), 9, np.uint8)))}
        stored = anna.post("/v1/files", files=picture).raise_for_status().json()["id"]
        assert anna.get(f"/v1/files/{stored}/content").content.startswith(b"\x89PNG")
        assert bert.get(f"/v1/files/{stored}").status_code == 404
        assert anna.delete(f"/v1/files/{stored}").json()["deleted"] is True


def test_the_front_lets_in_and_counts(front: Front) -> None:
    with front.client() as stranger, front.client("anna") as anna, front.client("eve") as eve:
        assert stranger.get("/v1/models").status_code == 401
        forged = {"X-Pathasst-Caller": json.dumps({"user": "key:0", "slides": ["*"]})}
        assert stranger.get("/v1/models", headers=forged).status_code == 401
        assert anna.get("/v1/files", headers=forged).status_code == 200  # and is hers all the same
        assert anna.get("/v1/models", headers={"Host": "evil.example"}).status_code == 421
        assert anna.get("/metrics").status_code == 403
        assert anna.post("/v1/chat/completions", content=b"x" * 2**21).status_code == 413
        assert anna.post("/v1/chat/completions", content=iter([b"x" * 2**19] * 4)).status_code == 413  # without a length
        assert anna.get("/v1/nothing").json()["error"]["message"].startswith("there is no GET /v1/nothing")
        ask(anna, "Hello")
        metrics = eve.get("/metrics").raise_for_status().text
    for worker in ("0", "1"):
        assert f'pathasst_jobs_running{{worker="{worker}"}} 0.0' in metrics
        assert f'pathasst_worker_up{{worker="{worker}"}} 1.0' in metrics
    counted = re.findall(r'pathasst_requests_total\{route="/v1/chat/completions",status="200",worker="\d"\} (\S+)', metrics)
    assert sum(map(float, counted)) >= 1
    assert re.search(r'pathasst_front_requests_total\{status="401"\} [2-9]', metrics)
    health = httpx.get(f"{front.url}/health").json()
    assert health == {"status": "ok", "workers": ["ready", "ready"]}
    assert httpx.get(f"{front.url}/ready").status_code == 200


def running_jobs(front: Front) -> float:
    with front.client("eve") as eve:
        return sum(map(float, re.findall(r"pathasst_jobs_running\{\S+\} (\S+)", eve.get("/metrics").text)))


def test_an_answer_streams_and_a_client_that_leaves_frees_the_worker(front: Front) -> None:
    question = {"messages": [{"role": "user", "content": "Please wait"}], "stream": True}
    with front.client("anna") as anna, anna.stream("POST", "/v1/chat/completions", json=question) as answer:
        lines = answer.iter_lines()
        assert any("Word 0." in line for line in lines)  # and the rest takes 20 s
        assert running_jobs(front) == 1
    until(lambda: running_jobs(front) == 0)


def test_a_worker_that_dies_is_started_again_and_only_its_requests_fail(front: Front) -> None:
    question = {"messages": [{"role": "user", "content": "Please wait"}]}
    statuses: list[int] = []

    def wait_for(name: str) -> None:
        with front.client(name) as web:
            statuses.append(web.post("/v1/chat/completions", json=question).status_code)

    with front.client("anna") as anna, front.client("bert") as bert:
        dying, other = process_of(anna), process_of(bert)
        assert dying != other
        asking = threading.Thread(target=wait_for, args=("anna",))
        asking.start()
        until(lambda: running_jobs(front) == 1)
        with bert.stream("POST", "/v1/chat/completions", json={**question, "stream": True}) as unharmed:
            lines = unharmed.iter_lines()
            assert any("Word 0." in line for line in lines)
            os.kill(dying, signal.SIGKILL)
            asking.join(60)
            assert statuses == [503]
            assert any("Word 9." in line for line in lines)
        until(lambda: DOWN in [w.state for w in front.workers] or any(w.starts > 1 for w in front.workers))
        assert process_of(anna) == other  # she goes on at once
        until(lambda: httpx.get(f"{front.url}/health").json()["workers"] == ["ready", "ready"])
        assert sorted(worker.starts for worker in front.workers) == [1, 2]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc here")
def test_workers_end_with_a_front_that_is_killed(tmp_path: Path) -> None:
    script = f"""
import sys, time
sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}
from functools import partial
from pathlib import Path
from pathasst.serve.workers import Workers
from worker_builds import small
workers = Workers(1, partial(small, Path({str(tmp_path)!r})))
workers.start()
while not workers.all[0].up:
    time.sleep(0.02)
print(workers.all[0].process.pid, flush=True)
time.sleep(600)
"""
    front = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert front.stdout is not None
    worker = Path("/proc", front.stdout.readline().strip(), "stat")
    assert worker.exists() and list((tmp_path / "scratch").iterdir())
    front.kill()
    front.wait()
    until(lambda: not worker.exists() or ") Z " in worker.read_text())
    assert list((tmp_path / "scratch").iterdir()) == []  # and leave nothing


def test_without_keys_a_browser_keeps_its_worker(tmp_path: Path) -> None:
    """No processes: the choice alone."""
    with fronted_choice() as users:
        first, second = users.worker("visitor:a"), users.worker("visitor:b")
        assert first is not None and second is not None and first is not second
        assert [users.worker("visitor:a") for _ in range(3)] == [first] * 3
        first.state = DOWN
        assert users.worker("visitor:a") is second
        first.state = LOADING
        assert users.worker("visitor:a") is second  # what it knows is there now
        assert users.worker("visitor:c") is first
        first.state = second.state = DOWN
        assert users.worker("visitor:a") is None


@contextmanager
def fronted_choice() -> Iterator[Users]:
    workers = Workers(2, worker_builds.broken)
    for worker in workers:
        worker.state = LOADING
    try:
        yield Users(workers)
    finally:
        workers.close(0)


def test_the_cookie_says_nothing(tmp_path: Path) -> None:
    from pathasst.serve.front import _visitor

    browser = {"type": "http", "method": "GET", "headers": [(b"accept", b"text/html")], "state": {"user": "local"}}
    name, cookie = _visitor({**browser, "scheme": "https"})
    assert re.fullmatch(rf"{COOKIE}=[0-9a-f]{{32}}; Path=/; HttpOnly; SameSite=Lax; Secure", cookie.decode())
    again = {**browser, "headers": [(b"accept", b"text/html"), (b"cookie", cookie.split(b";")[0])]}
    assert _visitor(again) == (name, b"")
    program = {**browser, "headers": [], "client": ("10.0.0.7", 1)}
    assert _visitor(program) == ("address:10.0.0.7", b"")
    assert _visitor({**browser, "state": {"user": "key:1"}}) == ("key:1", b"")


@pytest.mark.parametrize(("build", "words"), [(worker_builds.without_weights, "the weights"), (worker_builds.broken, "3 times")])
def test_what_keeps_all_workers_from_starting_ends_the_server(build: Any, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pathasst.serve.workers.FIRST_PAUSE", 0.01)
    failures: list[Exception] = []
    workers = Workers(1, build, failures.append)
    workers.start()
    try:
        until(lambda: failures)
    finally:
        workers.close(5)
    assert isinstance(failures[0], BadSettings) and words in str(failures[0])


def test_workers_share_the_memory_for_pictures(tmp_path: Path) -> None:
    whole = settings(tmp_path, decoding_pixels=80_000_000, picture_pixels=40_000_000)
    assert share(whole, 2).serve.decoding_pixels == 40_000_000
    assert share(whole, 4).serve.decoding_pixels == 40_000_000  # one picture must fit
