"""The audit log on a full disk, and what must outlive any error."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from server_parts import RuleBrain, settings

from pathasst.core.errors import BadInput
from pathasst.serve.audit_log import LogFile
from pathasst.serve.service import Service
from pathasst.serve.uploads import UploadStore
from pathasst.tools.protocol import Registry


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_costs_the_line_alone() -> None:
    journal = LogFile(Path("/dev/full"))
    journal.write(event="question")
    assert journal.failures == 1


def test_half_a_line_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, write = LogFile(tmp_path / "a.jsonl"), os.write
    monkeypatch.setattr(os, "write", lambda sink, data: write(sink, data[:10]))
    journal.write(event="torn")
    monkeypatch.undo()
    journal.write(event="whole")
    assert [json.loads(line)["event"] for line in (tmp_path / "a.jsonl").read_text().splitlines()] == ["whole"]
    assert journal.failures == 1


def test_several_processes_lose_no_line_when_the_file_turns_over(tmp_path: Path) -> None:
    journals = [LogFile(tmp_path / "a.jsonl", max_bytes=2000, keep=1000) for _ in range(4)]  # each as of a process of its own

    def write(number: int) -> None:
        for n in range(100):
            journals[number].write(worker=number, n=n)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    files = list(tmp_path.iterdir())
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert {(line["worker"], line["n"]) for line in lines} == {(w, n) for w in range(4) for n in range(100)}
    assert len(lines) == 400 and max(file.stat().st_size for file in files) <= 2000 and all(j.failures == 0 for j in journals)


def test_a_lone_surrogate_is_written_as_something_else(tmp_path: Path) -> None:
    LogFile(tmp_path / "a.jsonl").write(question="\ud800")
    assert json.loads((tmp_path / "a.jsonl").read_text())["question"] == "?"


def test_a_sweep_that_fails_costs_no_other(tmp_path: Path) -> None:
    service = Service(settings(tmp_path), brain=RuleBrain(), registry=Registry())
    done = []
    service.sweeps[:] = [lambda: 1 / 0, lambda: done.append(1)]
    service.sweep()
    service.close()
    assert done  # the service's own thread may have swept, too


def test_room_is_asked_for_before_the_work_and_a_picture_without_room_costs_no_answer(tmp_path: Path) -> None:
    store = UploadStore(tmp_path, quota=1000)
    store.require_room("anna")
    store.put("anna", "a.png", b"x" * 900)
    with pytest.raises(BadInput, match="your uploads hold"):
        store.require_room("anna")
    store.require_room("bert")
    service = Service(settings(tmp_path / "s", quota_bytes=10), brain=RuleBrain(), registry=Registry())
    assert service.store_picture("anna", "a.png", b"x" * 100) is None
    service.close()
