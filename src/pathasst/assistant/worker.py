"""Runs work on a thread of its own, so that the caller can stop waiting: time-outs and cancelling. Knows nothing of the work.

Python cannot kill a thread. Work that is late is left behind: its outcome is thrown away, its thread ends when the work does, and
does not keep the program from ending.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from queue import SimpleQueue
from typing import Any, TypeVar

from pathasst.core.errors import PathAsstError

T = TypeVar("T")
_POLL_SECONDS = 0.05


class Late(PathAsstError):
    """The work did not finish in its time."""


class Cancelled(PathAsstError):
    """The person stopped waiting."""


class Worker:
    """One thread that takes work in turn; a fresh one takes over after a time-out. Use one per conversation."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] | None = None

    def run(self, work: Callable[[], T], seconds: float, cancel: threading.Event | None = None) -> T:
        """What `work()` returns, or raises. Raises Late after `seconds`, Cancelled soon after `cancel` is set."""
        if cancel is not None and cancel.is_set():
            raise Cancelled("cancelled")
        future: Future[T] = Future()
        queue = self._queue = self._queue or _start()
        queue.put((future, work))
        try:
            return _wait(future, time.monotonic() + seconds, seconds, cancel)
        except (Late, Cancelled, KeyboardInterrupt):
            self.close()
            raise

    def close(self) -> None:
        """Let the thread end when its work does."""
        if self._queue is not None:
            self._queue.put(None)
            self._queue = None


def _wait(future: Future[T], deadline: float, seconds: float, cancel: threading.Event | None) -> T:
    while True:
        try:
            return future.result(timeout=max(0.0, min(_POLL_SECONDS, deadline - time.monotonic())))
        except FutureTimeout:
            if future.done():  # the work itself raised a TimeoutError
                raise
            if cancel is not None and cancel.is_set():
                raise Cancelled("cancelled") from None
            if time.monotonic() >= deadline:
                raise Late(f"not finished within {seconds:g} s") from None


def _start() -> SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]:
    queue: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()

    def take() -> None:
        while (item := queue.get()) is not None:
            future, work = item
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001 - carried to the waiting thread, which raises it
                future.set_exception(error)

    threading.Thread(target=take, name="pathasst-worker", daemon=True).start()
    return queue
