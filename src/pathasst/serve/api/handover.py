"""What the front process tells a worker of a request that it has admitted, in a header, and how the worker reads it.

The worker's socket lies in a folder of the server's own: nobody but the front can send such a header there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "x-pathasst-caller"


def packed(state: Mapping[str, Any]) -> bytes:
    """The header's value: whose request it is, and what they may open, as the guard has noted it."""
    return json.dumps({"user": state["user"], "slides": state["slides"]}).encode()  # ASCII, whatever the name


class Handover:
    """ASGI, in a worker in place of the guard: the front has checked host, origin, key, rate and size already.

    `on_response` is called with a request's route, status and seconds.
    """

    def __init__(self, app: ASGIApp, on_response: Callable[[str, int, float], None] = lambda path, status, seconds: None) -> None:
        self.app, self.on_response = app, on_response

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises KeyError for a request that does not come from the front."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        caller = json.loads(Headers(scope=scope)[HEADER])
        scope.setdefault("state", {}).update(user=caller["user"], slides=tuple(caller["slides"]))
        started, status = time.monotonic(), 500

        async def sending(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self.app(scope, receive, sending)
        finally:
            self.on_response(getattr(scope.get("route"), "path", "other"), status, time.monotonic() - started)
