"""How far a long piece of work is, told to whoever listens. Knows no room and no terminal.

Loops over the tiles of a picture call `step`; the command line listens with `listening`. Without a listener nothing happens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Listener = Callable[[int, int], None]
"""Called with how many steps are done, and of how many."""
_listener: ContextVar[Listener | None] = ContextVar("progress", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Within it, `step` calls the listener."""
    before = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(before)


def step(done: int, total: int) -> None:
    """Tell the listener, if there is one, that so many of all steps are done."""
    if (listener := _listener.get()) is not None:
        listener(done, total)
