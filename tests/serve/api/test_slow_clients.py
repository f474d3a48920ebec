"""Clients that send slowly, over real sockets."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from server_parts import running

from pathasst.cli.serve import run_server
from pathasst.serve.api import slow_clients
from pathasst.serve.service import Service
from pathasst.tools.protocol import Registry


@contextlib.contextmanager
def connection(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as raw:
        yield raw


def port_of(url: str) -> int:
    return int(url.rsplit(":", 1)[1])


def test_a_body_that_stops_coming_is_given_up(tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_clients, "GRACE", 0.3)
    with running(tmp_path, registry) as server, connection(port_of(server.url)) as raw:
        raw.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
        raw.sendall(b'Content-Length: 500\r\n\r\n{"messages"')
        said = b"".join(iter(lambda: raw.recv(4096), b""))  # to the end of the connection
        assert said.startswith(b"HTTP/1.1 408")
        assert b"too slowly" in said


def test_a_body_that_comes_in_time_may_take_longer_than_the_grace(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slow_clients, "GRACE", 0.3)
    monkeypatch.setattr(slow_clients, "SLOWEST", 1)

    def body() -> Iterator[bytes]:
        yield b'{"messages": [{"role": "user", "content": "Hello"}]}'[:40]
        time.sleep(0.6)
        yield b'{"messages": [{"role": "user", "content": "Hello"}]}'[40:]

    with running(tmp_path, registry) as server:
        answer = httpx.post(f"{server.v1}/chat/completions", content=body(), headers={"Content-Type": "application/json"})
        assert answer.status_code == 200


def test_connections_that_ask_for_nothing_are_closed(tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that never begins, one that never ends its beginning, one idle after an answer; one that works is left alone."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with running(tmp_path, registry) as other:
        service: Service = other.service
        server = run_server(other.server.config.app, service.settings.serve, "127.0.0.1", port, service.begin_closing)
        server.config.timeout_keep_alive = 1
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        with connection(port) as silent, connection(port) as half, connection(port) as idle, connection(port) as works:
            half.sendall(b"GET /health HTTP/1.1\r\nHost: local")
            idle.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            words = b'{"messages": [{"role": "user", "content": "Please wait"}]}'
            works.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n%s" % (len(words), words)
            )
            assert silent.recv(100) == b""
            assert half.recv(100) == b""
            assert b"".join(iter(lambda: idle.recv(4096), b"")).startswith(b"HTTP/1.1 200")
            other.brain.hold.set()
            assert works.recv(4096).startswith(b"HTTP/1.1 200")
        server.should_exit = True
        thread.join(10)
