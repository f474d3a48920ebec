"""The queue: order, limits, cancelling, an orderly end; and many threads on one brain."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any

import pytest

from pathasst.assistant.worker import Cancelled
from pathasst.core.records import Turn
from pathasst.serve.batching import SharedBrain
from pathasst.serve.jobs import Busy, Closing, Job, WorkQueue


@pytest.fixture
def queue() -> Iterator[WorkQueue]:
    made = WorkQueue(at_once=1, waiting=2, wait_seconds=30)
    yield made
    made.close(1)


def held(go: threading.Event, begun: threading.Event) -> Any:
    def work(job: Job[str]) -> str:
        job.emit("begun")
        begun.set()
        while not (go.wait(0.01) or job.cancelled.is_set()):
            pass
        job.emit("ended")
        return "cancelled" if job.cancelled.is_set() else "done"

    return work


def test_events_and_result_reach_every_reader(queue: WorkQueue) -> None:
    go, begun = threading.Event(), threading.Event()
    job = queue.submit(held(go, begun))
    with ThreadPoolExecutor(2) as pool:
        early = [pool.submit(lambda: list(job.events())) for _ in range(2)]
        go.set()
        assert [e.result() for e in early] == [["begun", "ended"]] * 2
    assert list(job.events()) == ["begun", "ended"]
    assert job.result() == "done"


def test_an_error_is_raised_where_the_result_is_wanted(queue: WorkQueue) -> None:
    job = queue.submit(lambda job: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(job.events())
    with pytest.raises(ZeroDivisionError):
        job.result()
    assert queue.submit(lambda job: "on").result() == "on"


def test_full_cancelled_and_too_late(queue: WorkQueue) -> None:
    go, begun = threading.Event(), threading.Event()
    first = queue.submit(held(go, begun))
    begun.wait(5)
    waiting = [queue.submit(lambda job: "ran") for _ in range(2)]
    with pytest.raises(Busy) as refused:
        queue.submit(lambda job: "ran")
    assert refused.value.retry_after >= 1
    waiting[0].cancel()
    another = queue.submit(lambda job: "ran")  # who left takes no room
    queue.wait_seconds = 0.0
    go.set()
    assert first.result(5) == "done"
    with pytest.raises(CancelledError):
        waiting[0].result(5)
    for job in (waiting[1], another):
        with pytest.raises(Busy, match="no room within"):
            job.result(5)


def test_begun_waits_for_the_beginning_or_says_why_there_is_none(queue: WorkQueue) -> None:
    go, begun = threading.Event(), threading.Event()
    first = queue.submit(held(go, begun))
    asyncio.run(first.wait_started())
    assert not first.done
    second = queue.submit(lambda job: "ran")
    queue.wait_seconds = 0.0
    threading.Timer(0.1, go.set).start()
    with pytest.raises(Busy, match="no room within"):
        asyncio.run(second.wait_started())


def test_leaving_a_stream_cancels_the_work(queue: WorkQueue) -> None:
    go, begun = threading.Event(), threading.Event()
    job = queue.submit(held(go, begun))

    async def read_one() -> Any:
        stream = job.stream()
        first = await anext(stream)
        await stream.aclose()  # type: ignore[attr-defined]
        return first

    assert asyncio.run(read_one()) == "begun"
    assert job.result(5) == "cancelled"


@pytest.mark.parametrize(("seconds", "finished", "result"), [(5.0, True, "done"), (0.1, False, "cancelled")])
def test_closing_waits_then_cancels(seconds: float, finished: bool, result: str) -> None:
    queue, go, begun = WorkQueue(1, 5), threading.Event(), threading.Event()
    running = queue.submit(held(go, begun))
    begun.wait(5)
    waiting = queue.submit(lambda job: "ran")
    if finished:
        threading.Timer(0.2, go.set).start()
    assert queue.close(seconds) is finished
    assert running.result(5) == result
    with pytest.raises(Closing):
        waiting.result(5)
    with pytest.raises(Closing):
        queue.submit(lambda job: "ran")


class Batcher:
    """Answers several at once, slowly; fails as a whole when one of them is bad."""

    name, sees = "batcher@1", True

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.go = threading.Event()

    def reply(self, turns: Any, images: Any, tools: Any) -> Turn:
        self.sizes.append(1)
        self.go.wait(5)
        if turns[0].content == "bad":
            raise ValueError("bad request")
        return Turn(role="assistant", content=turns[0].content)

    def reply_many(self, requests: Any) -> list[Turn]:
        self.sizes.append(len(requests))
        if any(turns[0].content == "bad" for turns, _, _ in requests):
            raise ValueError("one of them is bad")
        return [Turn(role="assistant", content=turns[0].content) for turns, _, _ in requests]


def asked(shared: SharedBrain, text: str, cancel: threading.Event | None = None) -> str:
    return shared.view(cancel or threading.Event()).reply([Turn(role="user", content=text)], [], []).content


@pytest.mark.parametrize("bad", [False, True])
def test_replies_wanted_at_once_are_made_together(bad: bool) -> None:
    brain = Batcher()
    shared = SharedBrain(brain, most=3)
    with ThreadPoolExecutor(6) as pool:
        first = pool.submit(asked, shared, "first")
        while not brain.sizes:
            time.sleep(0.01)
        words = ["bad" if bad and n == 2 else f"word {n}" for n in range(5)]
        later = [pool.submit(asked, shared, word) for word in words]
        while len(shared._waiting) < 5:
            time.sleep(0.01)
        brain.go.set()
        assert first.result(10) == "first"
        for word, future in zip(words, later, strict=True):
            if word == "bad":
                with pytest.raises(ValueError, match="bad request"):
                    future.result(10)
            else:
                assert future.result(10) == word
    assert max(brain.sizes) == 3
    assert shared._free == 1


def test_one_who_left_while_waiting_is_not_answered() -> None:
    brain, left = Batcher(), threading.Event()
    shared = SharedBrain(brain)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(asked, shared, "first")
        while not brain.sizes:
            time.sleep(0.01)
        second = pool.submit(asked, shared, "second", left)
        left.set()
        with pytest.raises(Cancelled):
            second.result(5)
        brain.go.set()
        assert first.result(5) == "first"
    assert brain.sizes == [1]
