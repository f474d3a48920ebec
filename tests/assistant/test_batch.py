"""Answering a folder, several at a time, against a real server on loopback: what a fault costs, and what is asked again."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from assistant_parts import ChatServer, call, message
from typer.testing import CliRunner

from pathasst.assistant import BrainSettings, open_brain
from pathasst.assistant.batch import AnswerFile, answer_all, read_questions
from pathasst.cli.main import app
from pathasst.core.errors import BadInput, BadSettings, Unreachable
from pathasst.imaging.pictures import encode_png
from pathasst.tools.protocol import Registry


@pytest.fixture
def folder(tmp_path: Path, spots: np.ndarray) -> Path:
    """Eight pictures, one of them broken."""
    fields = tmp_path / "fields"
    (fields / "more").mkdir(parents=True)
    for n in range(7):
        picture = spots.copy()
        picture[:2, : 8 * n] = 200
        (fields / ("more" if n % 2 else ".") / f"{n}.png").write_bytes(encode_png(picture))
    (fields / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    return fields


def brain_of(server: ChatServer, model: str = "vl") -> Any:
    return open_brain(BrainSettings(kind="openai", url=server.url, model=model, grounded=False))


def rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def test_a_folder_is_answered_several_at_a_time_and_a_bad_picture_costs_itself(
    chat_server: ChatServer, folder: Path, tmp_path: Path, registry: Registry
) -> None:
    lock, several, running, most = threading.Lock(), threading.Event(), 0, 0

    def count(body: dict[str, Any]) -> tuple[int, Any]:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        if running >= 3:
            several.set()
        several.wait(10)
        time.sleep(0.02)
        with lock:
            running -= 1
        asked = [m for m in body["messages"] if m["role"] == "tool"]
        return 200, message("Five spots.") if asked else message("", call("count_dark"))

    chat_server.answer = count
    out = tmp_path / "answers.jsonl"
    questions = read_questions(folder, "How many dark spots?", 0.25)
    results = list(answer_all(questions, out, brain_of(chat_server), registry, parallel=3))
    assert most == 3  # a server that batches has work, and not all at once
    assert sorted(r.id for r in results if r.error) == ["broken.png"]
    answers = rows(out)
    assert {row["id"] for row in answers} == {"0.png", "2.png", "4.png", "6.png", "more/1.png", "more/3.png", "more/5.png"}
    assert all(row["answer"].startswith("Five spots.") and row["ran"][0]["numbers"] == {"count": 5} for row in answers)
    assert [row["id"] for row in rows(tmp_path / "answers.failed.jsonl")] == ["broken.png"]

    asked = len(chat_server.requests)
    again = list(answer_all(questions, out, brain_of(chat_server), registry))
    assert len(chat_server.requests) == asked and rows(out) == answers
    assert [(r.id, bool(r.error)) for r in again if r.error or r.row] == [("broken.png", True)]


def test_what_a_kill_cut_off_and_what_has_changed_is_asked_again(
    chat_server: ChatServer, folder: Path, tmp_path: Path, spots: np.ndarray
) -> None:
    out, questions = tmp_path / "a" / "answers.jsonl", read_questions(folder, "What is it?")

    def asked() -> list[str]:
        return sorted(r.id for r in answer_all(questions, out, brain_of(chat_server), Registry(), parallel=1) if r.row)

    assert len(asked()) == 7
    last = rows(out)[-1]["id"]
    content = out.read_bytes()
    out.write_bytes(content[:-40])
    assert asked() == [last] and len(rows(out)) == 7
    (folder / "0.png").write_bytes(encode_png(spots[:48]))
    assert asked() == ["0.png"]
    assert len(list(answer_all(questions, out, brain_of(chat_server, "other"), Registry()))) == 8 and len(rows(out)) == 15
    out.write_text('{"image": "an answer of something else"}\n')
    with pytest.raises(BadSettings, match="line 1 is no answer"):
        AnswerFile(out)


def test_a_refused_question_costs_itself_and_a_closed_server_ends_the_batch(
    chat_server: ChatServer, folder: Path, tmp_path: Path
) -> None:
    lines = [{"id": str(n), "question": f"Question {n}?"} for n in range(40)]
    file = tmp_path / "questions.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    questions, out = read_questions(file), tmp_path / "answers.jsonl"
    chat_server.answer = lambda body: (400, "too long") if "Question 7?" in str(body) else (200, message("Yes."))
    results = list(answer_all(questions[:20], out, brain_of(chat_server), Registry(), parallel=2))
    assert [r.id for r in results if r.error] == ["7"] and len(rows(out)) == 19

    chat_server.answer = lambda body: (401, "no key")
    with pytest.raises(Unreachable, match=r"questions in a row: .*401.*run it again"):
        list(answer_all(questions, out, brain_of(chat_server), Registry(), parallel=2))
    assert len(rows(out)) == 19 and len(chat_server.requests) < 20 + 20

    chat_server.answer = lambda body: (200, message("Yes."))
    assert sum(r.row is not None for r in answer_all(questions, out, brain_of(chat_server), Registry(), parallel=2)) == 21


def test_a_batch_ends_when_it_is_cancelled(chat_server: ChatServer, folder: Path, tmp_path: Path) -> None:
    cancel, out = threading.Event(), tmp_path / "answers.jsonl"
    batch = answer_all(read_questions(folder, "What?"), out, brain_of(chat_server), Registry(), parallel=1, cancel=cancel)
    first = next(r for r in batch if r.row)
    cancel.set()
    assert not any(r.error for r in batch)
    assert first.id in {row["id"] for row in rows(out)} and len(rows(out)) < 7


def test_lines_name_pictures_scale_and_words(tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    lines = [
        '{"image": "a.png", "question": "Which?", "um_per_px": 0.5, "id": "first"}',
        "",
        '{"images": ["a.png", "b.png"]}',
        '{"image": "a.png", "colour": "red"}',
        "no json",
    ]
    file.write_text("\n".join(lines))
    first, second, third, fourth = read_questions(file, "What is it?", 0.25)
    assert (first.id, first.question, first.pictures, first.um_per_px) == ("first", "Which?", (tmp_path / "a.png",), 0.5)
    assert (second.id, second.question, len(second.pictures), second.um_per_px) == ("3", "What is it?", 2, 0.25)
    assert "line 4: colour: Extra inputs" in third.fault and fourth.fault.startswith("line 5: Invalid JSON")
    assert read_questions(file)[1].fault == "line 3 has no question"
    file.write_text('{"id": "a", "question": "?"}\n{"id": "a", "question": "!"}')
    with pytest.raises(BadInput, match="'a' stands twice"):
        read_questions(file)
    with pytest.raises(BadInput, match="needs a question"):
        read_questions(tmp_path)


def test_the_command_counts_and_names_what_failed(chat_server: ChatServer, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "answers.jsonl"
    command = ["answer", str(folder), "-q", "What?", "--brain", f"{chat_server.url}#m", "--out", str(out), "--no-tools"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "8 questions: 7 answered, 0 answered before, 1 not" in result.output
    assert "broken.png: " in result.output
    assert all("tools" not in body for body in chat_server.requests)
    assert "0 answered, 7 answered before, 1 not" in CliRunner().invoke(app, command).output
