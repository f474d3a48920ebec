"""Fixtures of the tests of the assistant and of the server."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from assistant_parts import HITS, Broken, ChatServer, CountDark, Draw, RedShare, Shelf

from pathasst.tools.protocol import Registry


@pytest.fixture
def spots() -> np.ndarray:
    """96×96 px, light, with five dark discs."""
    image = np.full((96, 96, 3), 230, np.uint8)
    rows, columns = np.mgrid[:96, :96]
    for y, x in [(20, 20), (20, 70), (50, 45), (75, 20), (75, 75)]:
        image[(rows - y) ** 2 + (columns - x) ** 2 < 36] = 40
    return image


@pytest.fixture
def registry() -> Registry:
    registry = Registry()
    for tool in (CountDark(), RedShare(), Draw(), Shelf(HITS), Broken()):
        registry.add(tool)
    return registry


@pytest.fixture
def chat_server() -> Iterator[ChatServer]:
    """A real HTTP server on loopback at /v1/chat/completions."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.requests.append(body)
            state.headers.append(dict(self.headers))
            status, answer = state.answer(body) if self.path == "/v1/chat/completions" else (404, {})
            data = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            if status == 429:
                self.send_header("Retry-After", "0")
            with contextlib.suppress(ConnectionError):  # the client may have left
                self.end_headers()
                self.wfile.write(data)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state = ChatServer(f"http://127.0.0.1:{server.server_port}/v1")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield state
    server.shutdown()
    server.server_close()
    thread.join(5)
