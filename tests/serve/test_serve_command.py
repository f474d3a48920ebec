"""`pathasst serve` and its keys, as typed."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from subprocess import PIPE, Popen, run

import httpx
import pytest
from typer.testing import CliRunner

from pathasst.cli.main import app
from pathasst.cli.serve import serve_settings
from pathasst.core.errors import BadSettings
from pathasst.serve.audit_log import LogFile
from pathasst.serve.keys import KeyStore


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATHASST_HOME", str(tmp_path))
    monkeypatch.delenv("PATHASST_BRAIN", raising=False)
    return tmp_path


def settings(host: str = "127.0.0.1", names: tuple[str, ...] = (), require_keys: bool = False) -> object:
    return serve_settings(host, "embedded", "", list(names), [], [], 0, require_keys).serve


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_beyond_loopback_a_key_is_needed(host: str, home: Path) -> None:
    with pytest.raises(BadSettings, match="serve keys add"):
        settings(host)
    key, _ = KeyStore(home / "keys.json").add("a")
    assert settings(host).keys_required  # type: ignore[attr-defined]
    KeyStore(home / "keys.json").revoke(key.id)
    with pytest.raises(BadSettings):
        settings(host)


def test_on_loopback_none_is_needed_but_can_be_asked_for() -> None:
    assert not settings().keys_required  # type: ignore[attr-defined]
    assert "localhost" in settings(names=("a.example",)).hosts  # type: ignore[attr-defined]
    with pytest.raises(BadSettings):
        settings(require_keys=True)


def test_keys_as_typed(home: Path) -> None:
    invoke = CliRunner().invoke
    made = invoke(app, ["serve", "keys", "add", "Ward 3"])
    secret = next(line for line in made.output.splitlines() if line.startswith("pa-"))
    assert KeyStore(home / "keys.json").check(secret)
    listed = invoke(app, ["serve", "keys", "list"]).output
    assert "Ward 3" in listed
    assert secret.split("-", 2)[2] not in listed
    assert "is revoked" in invoke(app, ["serve", "keys", "revoke", secret.split("-")[1]]).output
    assert KeyStore(home / "keys.json").check(secret) is None


def test_it_serves_and_stops(home: Path) -> None:
    """The command itself, with another server as brain, so that no model is loaded."""
    command = [
        sys.executable,
        "-m",
        "pathasst.cli.main",
        "serve",
        "--port",
        "0",
        "--no-page",
        "--brain",
        "http://127.0.0.1:9/v1#m",
    ]
    from socket import socket

    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command[command.index("0")] = str(port)
    process = Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=PIPE, stderr=PIPE, text=True)
    try:
        end = time.monotonic() + 120
        while time.monotonic() < end and process.poll() is None:
            try:
                if httpx.get(f"http://127.0.0.1:{port}/ready").status_code == 200:
                    break
            except httpx.ConnectError:
                pass
            time.sleep(0.2)
        question = {"messages": [{"role": "user", "content": "Hello"}]}
        answer = httpx.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=question, timeout=60)
        assert answer.status_code == 502
        message = answer.json()["error"]["message"]  # the address behind the server is its operator's business
        assert "the model's server" in message and "127.0.0.1:9" not in message
    finally:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and "Interrupted" not in err
    assert f"Listening at http://127.0.0.1:{port}/ while page and models load." in out
    assert "m at http://127.0.0.1:9/v1 answers at" in out


def test_what_keeps_it_from_starting_ends_it() -> None:
    """A model that is missing is told by the command, not by a page that loads for ever; so is a port in use, before any load."""
    from socket import socket

    command = [sys.executable, "-m", "pathasst.cli.main", "serve", "--no-page", "--port"]
    with socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = run([*command, str(taken.getsockname()[1])], capture_output=True, text=True, timeout=120)
        assert process.returncode == 1 and "Address already in use" in process.stderr and "--port" in process.stderr
        assert "answers at" not in process.stdout
    process = run([*command, "0", "--brain", "llamacpp:no-such-model"], capture_output=True, text=True, timeout=120)
    assert process.returncode == 1 and "no model is called" in process.stderr and "Traceback" not in process.stderr


def test_a_journal_turns_over(home: Path) -> None:
    journal = LogFile(home / "j.jsonl", max_bytes=200, keep=2)
    for n in range(20):
        journal.write(n=n, text="x" * 40)
    assert sorted(p.name for p in home.glob("j.*")) == ["j.jsonl", "j.jsonl.1", "j.jsonl.2"]
    assert '"n": 19' in (home / "j.jsonl").read_text()
