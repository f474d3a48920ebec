"""Work that many people ask for at once: a bounded queue, jobs that tell what happens, cancelling, an orderly end.

Knows nothing of the work. A job that finds no room is refused at once (`Busy`), so that a server answers 429 instead of growing.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import CancelledError, Future
from typing import Any, Generic, TypeVar

from pathasst.core.errors import PathAsstError

T = TypeVar("T")
_counter = itertools.count(1)


class Busy(PathAsstError):
    """No room for another job now, or none became free in time: ask again after `retry_after` seconds."""

    def __init__(self, message: str, retry_after: float = 5.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Closing(PathAsstError):
    """The service is shutting down and takes no new work."""


class Job(Generic[T]):
    """One piece of work: its events while it runs, its result at the end. Any number of readers, from any thread."""

    def __init__(self, work: Callable[[Job[T]], T], user: str = "") -> None:
        self.id, self.user, self.work = f"job-{next(_counter)}", user, work
        self.submitted = time.monotonic()
        self.started: float | None = None
        self.cancelled = threading.Event()
        self._events: list[Any] = []
        self._change = threading.Condition()
        self._listeners: list[Callable[[], None]] = []
        self._future: Future[T] = Future()
        self._future.add_done_callback(lambda _: self._wake())

    def emit(self, event: Any) -> None:
        """Add an event for whoever reads; called by the work."""
        with self._change:
            self._events.append(event)
        self._wake()

    def cancel(self) -> None:
        """Ask the work to stop; a job that still waits does not start."""
        self.cancelled.set()
        if self.started is None:
            self._future.cancel()

    @property
    def done(self) -> bool:
        return self._future.done()

    def result(self, seconds: float | None = None) -> T:
        """What the work returned, or raises what it raised. Raises CancelledError when it was cancelled before it began."""
        return self._future.result(seconds)

    def events(self) -> Iterator[Any]:
        """Events as they come, until the job is done; then raises what the work raised, if it did."""
        at = 0
        while True:
            with self._change:
                self._change.wait_for(lambda count=at: len(self._events) > count or self.done)  # type: ignore[misc]
                new, over = self._events[at:], self.done
            yield from new
            at += len(new)
            if over and at >= len(self._events):
                break
        self.result()

    async def stream(self) -> AsyncGenerator[Any, None]:
        """As `events`, for asynchronous code. Leaving it early cancels the job."""
        at = 0
        with self._wake_event() as wake:
            try:
                while True:
                    wake.clear()
                    new, over = self._events[at:], self.done
                    for event in new:
                        yield event
                    at += len(new)
                    if over and at >= len(self._events):
                        break
                    await wake.wait()
            finally:
                if not self.done:
                    self.cancel()
        self.result()

    async def wait_started(self) -> None:
        """Wait until the work begins; raises what `result` raises if it never does."""
        with self._wake_event() as wake:
            while True:
                wake.clear()
                if self.started is not None or self.done:
                    break
                await wake.wait()
        if self.started is None:
            self.result()

    @contextlib.contextmanager
    def _wake_event(self) -> Iterator[asyncio.Event]:
        """An event that is set whenever something happens to the job; clear it before looking."""
        loop, wake = asyncio.get_running_loop(), asyncio.Event()

        def tell() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is gone with its reader
                loop.call_soon_threadsafe(wake.set)

        self._listeners.append(tell)
        try:
            yield wake
        finally:
            self._listeners.remove(tell)

    def run(self) -> None:
        """Do the work on this thread."""
        if not self._future.set_running_or_notify_cancel():
            return
        self.started = time.monotonic()
        self._wake()
        try:
            self._future.set_result(self.work(self))
        except BaseException as error:  # noqa: BLE001 - carried to whoever waits
            self._future.set_exception(error)

    def refuse(self, error: Exception) -> None:
        """End a job that has not begun with an error."""
        if self._future.set_running_or_notify_cancel():
            self._future.set_exception(error)

    def _wake(self) -> None:
        with self._change:
            self._change.notify_all()
        for listener in list(self._listeners):
            listener()


class WorkQueue:
    """`at_once` threads that take jobs in order; at most `waiting` jobs wait, none longer than `wait_seconds`."""

    def __init__(self, at_once: int, waiting: int, wait_seconds: float = 120.0) -> None:
        self.at_once, self.most, self.wait_seconds = at_once, waiting, wait_seconds
        self._waiting: deque[Job[Any]] = deque()
        self._running: set[Job[Any]] = set()
        self._change = threading.Condition()
        self._closing = False
        self._threads = [threading.Thread(target=self._take, name=f"pathasst-job-{n}", daemon=True) for n in range(at_once)]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def running(self) -> int:
        return len(self._running)

    def submit(self, work: Callable[[Job[T]], T], user: str = "") -> Job[T]:
        """A job in the queue. Raises Busy when it is full, Closing when the service ends."""
        job = Job(work, user)
        with self._change:
            if self._closing:
                raise Closing("the service is shutting down; ask another one, or again later.")
            self._forget_left()
            if len(self._waiting) >= self.most + max(0, self.at_once - len(self._running)):
                raise Busy(f"{len(self._waiting)} requests are waiting already; try again in some seconds.", self._guess())
            self._waiting.append(job)
            self._change.notify()
        return job

    def refuse_new(self) -> None:
        """Take no new jobs; those that wait or run go on."""
        with self._change:
            self._closing = True
            self._change.notify_all()

    def close(self, seconds: float = 30.0) -> bool:
        """Take no new jobs, refuse the waiting, let the running finish for `seconds`, then cancel them. True: all finished."""
        self.refuse_new()
        with self._change:
            while self._waiting:
                self._waiting.popleft().refuse(Closing("the service is shutting down."))
            self._change.notify_all()
            finished = self._change.wait_for(lambda: not self._running, timeout=seconds)
            for job in self._running:
                job.cancel()
            if not finished:
                self._change.wait_for(lambda: not self._running, timeout=5.0)
        return finished

    def _take(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                job = self._waiting.popleft()
                self._running.add(job)
            if time.monotonic() - job.submitted > self.wait_seconds:
                job.refuse(Busy(f"no room within {self.wait_seconds:g} s; try again later.", self._guess()))
            else:
                job.run()
            with self._change:
                self._running.discard(job)
                self._change.notify_all()
            del job  # or the last job's pictures live until the next one comes

    def _forget_left(self) -> None:
        """Jobs whose person has left take no room."""
        if any(job.done for job in self._waiting):
            self._waiting = deque(job for job in self._waiting if not job.done)

    def _guess(self) -> float:
        """Seconds after which asking again is sensible: grows with the length of the queue."""
        return float(min(60, 2 + 2 * len(self._waiting) // max(1, self.at_once)))


__all__ = ["Busy", "CancelledError", "Closing", "Job", "WorkQueue"]
