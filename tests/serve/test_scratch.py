"""Nothing that a person uploads outlives its time: not an upload that breaks off, not a server that ends or is killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from server_parts import RuleBrain, settings

from pathasst.serve.scratch import LOCK, Scratch
from pathasst.serve.service import Service
from pathasst.tools.protocol import Registry

SERVER = Path(__file__).with_name("scratch_server.py")


def files(home: Path) -> list[Path]:
    """Files of people that lie there; locks are none."""
    return [f for f in home.rglob("*") if f.is_file() and f.suffix not in (LOCK, ".jsonl")]


def test_a_folder_goes_with_its_process_and_others_stay(tmp_path: Path) -> None:
    first = Scratch(tmp_path, 60)
    second = Scratch(tmp_path, 60)
    assert first.folder.exists() and second.folder.exists()
    first.close()
    assert not first.folder.exists() and second.folder.exists()
    second.close()
    assert list(tmp_path.iterdir()) == []


def test_old_files_of_the_page_go(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path, 60)
    for place in ("page/a/old", "page/new", "desks/old"):
        file = scratch.folder / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")
        if "old" in place:
            os.utime(file, (time.time() - 100,) * 2)
    assert scratch.sweep() == 1
    assert {f.name for f in scratch.folder.rglob("*") if f.is_file()} == {"new", "old"}  # a desk keeps its slide
    scratch.close()


@pytest.fixture(scope="module")
def _gradio() -> None:
    pytest.importorskip("gradio", reason="Gradio is not installed")


def start(home: Path) -> tuple[subprocess.Popen[str], int]:
    """A server in a process of its own, and its port."""
    environment = {**os.environ, "TMPDIR": str(home / "tmp")}
    (home / "tmp").mkdir(exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, str(SERVER), str(home / "state")], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    return process, int(line)


def send_half(port: int, size: int = 2**20) -> socket.socket:
    """An upload to the page that says it has twice what is sent."""
    connection = socket.create_connection(("127.0.0.1", port))
    head = (
        "POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        f"Content-Length: {2 * size}\r\n\r\n"
        '--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    )
    connection.sendall(head.encode() + b"x" * size)
    return connection


def until(what: object, home: Path, seconds: float = 30.0) -> list[Path]:
    """The files that lie there, once there are some or none, as `what` says."""
    end = time.monotonic() + seconds
    while bool(found := files(home)) is not what and time.monotonic() < end:
        time.sleep(0.05)
    return found


def test_uploads_leave_nothing_when_they_break_off_and_when_the_server_is_killed(tmp_path: Path, _gradio: None) -> None:
    process, port = start(tmp_path)
    try:
        connection = send_half(port)
        assert until(True, tmp_path)
        connection.close()
        assert until(False, tmp_path) == []  # at once, not in an hour
        connection = send_half(port)
        assert until(True, tmp_path)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    connection.close()
    assert files(tmp_path)  # it had no time to delete anything
    service = Service(settings(tmp_path / "state"), brain=RuleBrain(), registry=Registry())
    assert files(tmp_path) == []  # the next server did
    service.close()
    assert list((tmp_path / "state" / "scratch").iterdir()) == []
