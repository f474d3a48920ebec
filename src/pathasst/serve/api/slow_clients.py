"""Clients that send slowly, to hold what others need: a request's body and its beginning have to come at some speed.

Knows bytes and seconds; no route and no user.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive
from uvicorn.protocols.http.auto import AutoHTTPProtocol

if TYPE_CHECKING:
    _Protocol = Any
else:
    _Protocol = AutoHTTPProtocol

GRACE = 30.0
"""Seconds that any body has."""
SLOWEST = 16 * 2**10
"""Bytes a second that a body must come at, after the grace."""


def in_time(receive: Receive) -> Receive:
    """`receive` that raises HTTPException 408 where a body comes slower than `SLOWEST` bytes a second after `GRACE` seconds.

    Once the body is whole it waits as long as it takes: what may still come is that the client leaves.
    """
    received, complete, until = 0, False, asyncio.get_running_loop().time() + GRACE

    async def receiving() -> Message:
        nonlocal received, complete
        if complete:
            return await receive()
        try:
            async with asyncio.timeout_at(until + received / SLOWEST):
                message = await receive()
        except TimeoutError:
            raise HTTPException(408, "the request came too slowly.", {"Connection": "close"}) from None
        received += len(message.get("body", b""))
        complete = not message.get("more_body", False)
        return message

    return receiving


class Patience(_Protocol):
    """A connection of uvicorn that is closed when its first or next request does not begin, or begins without end.

    uvicorn closes what is silent after an answer; this, after one to two `timeout_keep_alive`, what dribbles or never asked.
    """

    _before: Any = None  # the request that had been answered when last looked at

    def connection_made(self, transport: Any) -> None:
        """Begin to look."""
        super().connection_made(transport)
        self._look(first=True)

    def _look(self, first: bool = False) -> None:
        if self.transport.is_closing():
            return
        idle = self.cycle is None or self.cycle.response_complete
        if idle and not first and self.cycle is self._before:
            self.transport.close()
            return
        self._before = self.cycle if idle else self
        self.loop.call_later(self.timeout_keep_alive, self._look)
