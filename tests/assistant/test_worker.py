from __future__ import annotations

import threading
import time

import pytest

from pathasst.assistant.worker import Cancelled, Late, Worker


def test_gives_what_the_work_gives_or_raises() -> None:
    worker = Worker()
    assert worker.run(lambda: 7, 5) == 7
    with pytest.raises(ZeroDivisionError):
        worker.run(lambda: 1 // 0, 5)
    with pytest.raises(TimeoutError):  # the work's own, not ours
        worker.run(_times_out, 5)
    worker.close()


def _times_out() -> None:
    raise TimeoutError("of the work itself")


def test_work_runs_on_one_thread_until_one_is_late() -> None:
    worker, go = Worker(), threading.Event()
    first = worker.run(threading.get_ident, 5)
    assert worker.run(threading.get_ident, 5) == first != threading.get_ident()
    with pytest.raises(Late, match=r"0\.1 s"):
        worker.run(lambda: go.wait(20), 0.1)
    assert worker.run(lambda: "fresh", 5) == "fresh"  # not behind the late one
    go.set()
    worker.close()


def test_cancel_ends_the_wait() -> None:
    worker, cancel, go = Worker(), threading.Event(), threading.Event()
    threading.Timer(0.1, cancel.set).start()
    started = time.monotonic()
    with pytest.raises(Cancelled):
        worker.run(lambda: go.wait(20), 20, cancel)
    assert time.monotonic() - started < 10
    with pytest.raises(Cancelled):
        worker.run(lambda: 1, 5, cancel)
    go.set()
