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
from server_parts import RuleBrain, running, settings

from pathasst.serve.scratch import LOCK, Scratch
from pathasst.serve.service import Service
from pathasst.tools.protocol import Registry


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
    for place in ("page/a/old", "page/new", "sessions/old"):
        file = scratch.folder / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")
        if "old" in place:
            os.utime(file, (time.time() - 100,) * 2)
    assert scratch.sweep() == 1
    assert {f.name for f in scratch.folder.rglob("*") if f.is_file()} == {"new", "old"}  # a session keeps its slide
    scratch.close()


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


def test_an_upload_that_breaks_off_leaves_nothing_nor_does_a_server_that_ends(tmp_path: Path) -> None:
    pytest.importorskip("gradio", reason="Gradio is not installed")
    with running(tmp_path, Registry(), page=True) as server:
        port = int(server.url.rsplit(":", 1)[1])
        connection = send_half(port)
        assert until(True, tmp_path)
        connection.close()
        assert until(False, tmp_path) == []  # at once, not in an hour
        connection = send_half(port)
        assert until(True, tmp_path)
    connection.close()
    assert files(tmp_path) == []


def test_what_a_killed_server_has_left_goes_with_the_next_one(tmp_path: Path) -> None:
    script = """
import sys, time
from pathlib import Path
from pathasst.serve.scratch import Scratch
folder = Scratch(Path(sys.argv[1]), 3600).folder
(folder / "page").mkdir()
(folder / "page" / "a.png").write_bytes(b"x")
print("ready", flush=True)
time.sleep(600)
"""
    home = tmp_path / "scratch"  # of the service below
    server = subprocess.Popen([sys.executable, "-c", script, str(home)], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None and server.stdout.readline() == "ready\n"
    beside = Service(settings(tmp_path), brain=RuleBrain(), registry=Registry())
    assert len(files(tmp_path)) == 1  # it lives, and so does its file
    beside.close()
    server.send_signal(signal.SIGKILL)
    server.wait()
    assert len(files(tmp_path)) == 1  # it had no time to delete anything
    service = Service(settings(tmp_path), brain=RuleBrain(), registry=Registry())
    assert files(tmp_path) == []
    service.close()
    assert list(home.iterdir()) == []
