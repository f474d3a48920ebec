"""The server while it starts: it listens at once, tells that models are loading, and then is the application. Knows no model.

Importing the page and the models takes far longer than opening a port. Somebody who opens the page meanwhile sees that it comes,
`/health` says that the process lives, and everything else is 503 with `Retry-After`, as a proxy or a program expects.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

RETRY_SECONDS = 2
WAITING_WORDS = "the server is starting: the page and its models are loading"
PAGE = f"""<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="refresh" content="{RETRY_SECONDS}"><title>PathAsst is starting</title>
<style>body{{font:1rem system-ui;max-width:32rem;margin:16vh auto;padding:0 1rem;color-scheme:light dark;line-height:1.5}}
progress{{width:100%;accent-color:#0f766e}}</style>
<h1>PathAsst</h1><p role="status">The server is starting. Its page and its models are loading; this page opens it by itself as
soon as it is there.</p><progress aria-label="loading"></progress>
<p>Research use only, not for diagnosis.</p></html>""".encode()
HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "retry-after": str(RETRY_SECONDS),
}


class Starting:
    """ASGI. `build` makes the application on a thread of its own; `on_failure` is called with what it raises.

    `begin` is called once the application takes requests.
    """

    def __init__(
        self, build: Callable[[], Any], on_failure: Callable[[Exception], None], begin: Callable[[], None] = lambda: None
    ) -> None:
        self._build, self._on_failure, self._begin = build, on_failure, begin
        self._app: ASGIApp | None = None
        self._open = AsyncExitStack()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif self._app is not None:
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await answer(scope, send)
        else:
            await send({"type": "websocket.close", "code": 1013})

    async def _live(self, receive: Receive, send: Send) -> None:
        """Build while requests are answered; at the end, close what was built."""
        await receive()
        await send({"type": "lifespan.startup.complete"})
        loop = asyncio.get_running_loop()
        opening: list[asyncio.Task[None]] = []

        def build() -> None:
            try:
                app = self._build()
            except Exception as error:  # noqa: BLE001 - the command tells it and ends
                self._on_failure(error)
                return
            if not loop.is_closed():
                loop.call_soon_threadsafe(lambda: opening.append(loop.create_task(self._enter(app))))

        threading.Thread(target=build, name="pathasst-start", daemon=True).start()
        await receive()  # the end
        for task in opening:
            await task
        await self._open.aclose()
        await send({"type": "lifespan.shutdown.complete"})

    async def _enter(self, app: Any) -> None:
        await self._open.enter_async_context(app.router.lifespan_context(app))
        self._begin()
        self._app = app


async def answer(scope: Scope, send: Send) -> None:
    """What a request gets meanwhile."""
    path = str(scope["path"]).removeprefix(str(scope.get("root_path", ""))) or "/"
    accepts = next((value for name, value in scope["headers"] if name == b"accept"), b"")
    status, kind = 503, b"application/json"
    if path == "/health":
        status, content = 200, b'{"status": "ok"}'
    elif path == "/" or b"text/html" in accepts:
        status, kind, content = 200 if path == "/" else 503, b"text/html; charset=utf-8", PAGE
    elif path == "/ready":
        content = json.dumps({"status": "loading", "message": WAITING_WORDS}).encode()
    else:
        fault = {"message": f"{WAITING_WORDS}; ask again in some seconds.", "type": "server_error", "param": None}
        content = json.dumps({"error": {**fault, "code": "loading"}}).encode()
    headers = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
    headers += [(b"content-type", kind), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else content})
