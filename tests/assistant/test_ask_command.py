"""`pathasst ask` as a person runs it, against a server on loopback, in a process of its own where signals matter."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from assistant_parts import ChatServer, message
from typer.testing import CliRunner

from pathasst.cli.main import app
from pathasst.imaging.pictures import encode_png


@pytest.fixture
def picture(spots: np.ndarray, tmp_path: Path) -> Path:
    path = tmp_path / "spots.png"
    path.write_bytes(encode_png(spots))
    return path


def test_answers_and_writes_a_folder(chat_server: ChatServer, picture: Path, tmp_path: Path) -> None:
    chat_server.answer = lambda body: (
        200,
        message(
            f"{'Which one?' if sum(m['role'] == 'user' for m in body['messages']) == 1 else 'And which other?'} PMID 123456."
        ),
    )
    out = tmp_path / "out"
    command = ["ask", str(picture), "What is this?", "--then", "And now?", "--brain", f"{chat_server.url}#m", "--out", str(out)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "Which one?" in result.output
    assert "And which other?" in result.output
    assert "1 reference struck out" in result.output
    assert "Research use only" in result.output
    assert {p.name for p in out.iterdir()} == {"answer.md", "answer.json", "answer_2.md", "answer_2.json", "image1_person.png"}


def test_scales_are_given_once_or_for_each_picture(chat_server: ChatServer, picture: Path) -> None:
    command = ["ask", str(picture), str(picture), "What is this?", "--brain", f"{chat_server.url}#m", "--json"]
    for scales, known in (([], [None, None]), ([0.5], [0.5, 0.5]), ([0.5, 0.25], [0.5, 0.25])):
        options = [word for scale in scales for word in ("--um-per-px", str(scale))]
        result = CliRunner().invoke(app, [*command, *options])
        assert [p["um_per_px"] for p in json.loads(result.stdout)["pictures"]] == known
    assert CliRunner().invoke(app, [*command, *["--um-per-px", "1"] * 3]).exit_code


def test_json_alone_on_standard_output(chat_server: ChatServer) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "pathasst.cli.main", "ask", "Hello?", "--json", "--brain", f"{chat_server.url}#m"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert json.loads(result.stdout)["answer"] == "Hello.", result.stderr


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["{picture}"], "the question is missing"),
        (["/no.png", "What?"], "no.png"),
        (["Q?", "--brain", "gpt"], "no brain is called"),
    ],
)
def test_slips_are_explained(words: list[str], reason: str, picture: Path, chat_server: ChatServer) -> None:
    words = [w.format(picture=picture) for w in words]
    if "--brain" not in words:
        words += ["--brain", f"{chat_server.url}#m"]
    result = CliRunner().invoke(app, ["ask", *words])
    assert result.exit_code != 0
    assert reason in str(result.exception)


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_ctrl_c_stops_and_shows_what_there_is(chat_server: ChatServer) -> None:
    asked, go = threading.Event(), threading.Event()

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        asked.set()
        go.wait(30)
        return 200, message("late")

    chat_server.answer = answer
    command = [sys.executable, "-m", "pathasst.cli.main", "ask", "Hello?", "--brain", f"{chat_server.url}#slow"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not asked.wait(0.2):
        assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    go.set()
    assert process.returncode == 130
    assert "cancelled before the model had answered" in out
