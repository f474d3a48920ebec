"""A real OpenAI-compatible HTTP server on loopback that answers as told and can be made to fail."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Fault = Callable[[BaseHTTPRequestHandler], None]


class FakeServer:
    """`answers`: a function from the request's body to the text. `faults`: what to do instead, for the next requests in turn."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.answer: Callable[[dict[str, Any]], str] = lambda body: f"echo: {body['messages'][-1]['content']}"
        self.faults: list[Fault | None] = []
        self.finish = "stop"
        self.usage: dict[str, int] | None = {"prompt_tokens": 10, "completion_tokens": 5}
        self.lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer.lock:
                    outer.requests.append(body)
                    outer.headers.append(dict(self.headers))
                    fault = outer.faults.pop(0) if outer.faults else None
                if fault:
                    fault(self)
                    return
                reply = {
                    "choices": [{"message": {"role": "assistant", "content": outer.answer(body)}, "finish_reason": outer.finish}],
                    **({"usage": outer.usage} if outer.usage else {}),
                }
                send(self, 200, json.dumps(reply))

            def log_message(self, *_: object) -> None:
                return

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self.http.shutdown()
        self.http.server_close()


def send(handler: BaseHTTPRequestHandler, status: int, text: str, **headers: str) -> None:
    """Answer a request with a status and a body."""
    data = text.encode()
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


def status(code: int, **headers: str) -> Fault:
    """A fault: this status, with headers."""
    return lambda handler: send(handler, code, f'{{"error": "status {code}"}}', **headers)


def body(text: str) -> Fault:
    """A fault: 200 with a body that is not what was promised."""
    return lambda handler: send(handler, 200, text)


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    """A fault: the connection breaks in the middle of the answer."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices"')
    handler.close_connection = True
