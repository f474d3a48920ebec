"""Conversations that survive a restart, where the operator wants that, and what is deleted is gone from the disk."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from assistant_parts import CountDark
from server_parts import RuleBrain, running, settings
from typer.testing import CliRunner

from pathasst.assistant.answer import Answer, ChatPicture, RetrievedAbstract, Step
from pathasst.assistant.statements import Kind, Statement
from pathasst.core.errors import BadInput
from pathasst.core.records import Annotation, Hit, Picture, ToolCall, ToolResult, Turn
from pathasst.serve.history import DAY, History
from pathasst.serve.page import pictures, talk
from pathasst.serve.page.sessions import PageSession, PageSessions
from pathasst.serve.report import to_html
from pathasst.serve.service import HISTORY, Service
from pathasst.tools.protocol import Registry

TALK, OTHER = "0" * 32, "1" * 32
SECRET = "Mrs. Zebra's picture"


def answer(question: str = "q") -> Answer:
    hit = Hit(pmid="1", title="t", passage="p", highlights=["p"])
    result = ToolResult(
        name="x",
        numbers={"count": np.int64(5), "share": np.float32(0.5)},
        annotations=[Annotation(kind="box", label="cell", coordinates=[1, 2, 3, 4])],
        pictures=[Picture(name="p", image=b"\x89PNG\xff")],
        hits=[hit],
    )
    step = Step(asked=ToolCall(name="x", arguments={"a": [1]}), call=ToolCall(name="x"), result=result, made=["image2"])
    return Answer(
        question=question,
        text="five",
        statements=[Statement(text="five", kind=Kind.TOOL, source="x")],
        steps=[step],
        sources=[RetrievedAbstract(hit=hit, cited=True)],
        turns=[Turn(role="user", content=question), Turn(role="assistant", content="five")],
        pictures=[ChatPicture(number=n, name="a", by="person", image=b"\x89PNG" + bytes([n])) for n in (1, 2)],
        library={"1": hit},
    )


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / HISTORY, keep_days=1)


def test_an_answer_comes_back_as_it_was(history: History) -> None:
    given = answer()
    history.put("a", TALK, 0, "q", given, {"pictures": [{"image": b"\xff\x00"}]})
    (stored,) = History(history.file, 1).load("a", TALK)
    plain = replace(given.steps[0].result, numbers={"count": 5, "share": 0.5})
    assert stored.answer == replace(given, steps=[replace(given.steps[0], result=plain)])
    assert stored.details == {"pictures": [{"image": b"\xff\x00"}]} and stored.question == "q"
    assert history.file.stat().st_mode & 0o777 == 0o600


def test_each_has_their_own_and_deletes_it(history: History) -> None:
    history.put("a", TALK, 0, "first", answer())
    history.put("a", TALK, 1, "second", answer())
    history.put("b", OTHER, 0, "theirs", answer())
    assert [t.title for t in history.talks("a")] == ["first"] and history.users() == {"a": 1, "b": 1}
    assert history.load("b", TALK) == [] and history.delete("b", TALK) == 0
    history.cut("b", TALK, 0)
    with pytest.raises(BadInput):
        history.put("b", TALK, 2, "mine now", answer())
    assert [e.question for e in history.load("a", TALK)] == ["first", "second"]
    history.put("a", TALK, 1, "second, edited", answer())
    assert [e.question for e in history.load("a", TALK)] == ["first", "second, edited"]
    history.cut("a", TALK, 0)
    assert history.talks("a") == [] and history.delete("b") == 1 and history.users() == {}


def test_what_is_deleted_or_too_old_is_not_on_the_disk(history: History) -> None:
    history.put("a", TALK, 0, SECRET, answer(SECRET))
    history.put("a", OTHER, 0, "another", answer())
    assert SECRET.encode() in history.file.read_bytes()
    history.delete("a", TALK)
    assert SECRET.encode() not in history.file.read_bytes()
    history.put("a", TALK, 0, SECRET, answer(SECRET))
    with sqlite3.connect(history.file) as base:
        base.execute("update talks set updated = updated - ? where id = ?", (DAY, TALK))
    assert [t.id for t in history.talks("a")] == [OTHER] and history.load("a", TALK) == []  # at once, not at the next sweep
    assert history.sweep() == 1 and SECRET.encode() not in history.file.read_bytes()
    assert [f.name for f in history.file.parent.iterdir()] == [HISTORY]  # no journal stays behind


def test_what_was_kept_and_what_was_deleted_outlive_a_kill(tmp_path: Path) -> None:
    script = f"""
import os, sys
from pathlib import Path
from pathasst.assistant.answer import Answer
from pathasst.serve.history import History
history = History(Path(sys.argv[1]), keep_days=1)
history.put("a", {TALK!r}, 0, {SECRET!r}, Answer(question={SECRET!r}, text="five"))
history.put("a", {OTHER!r}, 0, "another", Answer(question="another", text="six"))
history.delete("a", {TALK!r})
os.kill(os.getpid(), 9)
"""
    file = tmp_path / HISTORY
    assert subprocess.run([sys.executable, "-c", script, str(file)], check=False).returncode == -9
    (stored,) = History(file, keep_days=1).load("a", OTHER)
    assert stored.answer.text == "six"
    assert all(SECRET.encode() not in left.read_bytes() for left in tmp_path.iterdir())


@contextmanager
def service(home: Path, **serve: object) -> Iterator[Service]:
    registry = Registry()
    registry.add(CountDark())
    opened = Service(settings(home, **serve), brain=RuleBrain(), registry=registry)  # type: ignore[arg-type]
    yield opened
    opened.close()


def test_the_page_goes_on_after_a_restart(tmp_path: Path, spots: np.ndarray) -> None:
    with service(tmp_path, history_days=30) as before:
        session = PageSessions(60, history=before.history).get("a" * 32, "key:1")
        pictures.put(session, spots, "spots.png", um_per_px=0.5)
        list(talk.ask(session, before, "count them"))
        list(talk.ask(session, before, "and?"))
        shown, id_ = talk.past(session), session.talk.id
    with service(tmp_path, history_days=30) as after:
        sessions = PageSessions(60, history=after.history)
        assert len(sessions.get("b" * 32, "key:2").talks) == 1  # another key sees nothing
        session = sessions.get("c" * 32, "key:1")
        assert [title for title, _ in talk.titles(session)] == ["1 · count them", "2 · New conversation"] and not session.fresh
        talk.switch(session, 0)
        assert talk.past(session) == shown and session.talk.pictures[0].um_per_px == 0.5
        assert "5 dark spots" in to_html(session.talk.answers)
        list(talk.ask(session, after, "count them once more"))  # on the picture of before the restart
        assert "5 dark spots" in talk.past(session).split("once more")[1]
        assert len(after.history.load("key:1", id_)) == 3  # type: ignore[union-attr]
        assert talk.take_back(session) == "count them once more"
        assert len(after.history.load("key:1", id_)) == 2  # type: ignore[union-attr]
        session.delete()
        assert after.history.talks("key:1") == [] and session.fresh  # type: ignore[union-attr]


def test_off_by_default_and_a_full_disk_costs_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with service(tmp_path) as plain:
        list(talk.ask(PageSessions(60, history=plain.history).get("a" * 32), plain, "hello"))
        assert plain.history is None and not list(tmp_path.rglob("*.sqlite*"))
    with service(tmp_path, history_days=1) as full:
        session = PageSessions(60, history=full.history).get("a" * 32)

        def refuse(*_: object) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        monkeypatch.setattr(History, "put", refuse)
        monkeypatch.setattr(History, "delete", refuse)
        list(talk.ask(session, full, "hello"))
        assert session.talk.answers[0].text
        with pytest.raises(BadInput, match="could not be deleted"):  # never silently
            session.delete()


def test_over_http_and_by_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pathasst.cli.main import app

    with running(tmp_path, Registry(), history_days=1) as server:
        assert server.service.history is not None
        for id_ in (TALK, OTHER):
            server.service.history.put("local", id_, 0, "q", answer())
        listed = httpx.get(f"{server.v1}/history").json()["data"]
        assert {one["id"] for one in listed} == {TALK, OTHER}
        assert httpx.delete(f"{server.v1}/history/{TALK}").json()["deleted"] is True
        assert httpx.delete(f"{server.v1}/history/{TALK}").status_code == 404
        assert httpx.delete(f"{server.v1}/history").json()["deleted"] == 1
        server.service.history.put("key:1", TALK, 0, "q", answer())
    monkeypatch.setenv("PATHASST_HOME", str(tmp_path))
    assert "key:1: 1 conversations" in CliRunner().invoke(app, ["serve", "history"]).output
    assert "1 conversations of key:1 are deleted" in CliRunner().invoke(app, ["serve", "history", "--delete", "key:1"]).output
    assert PageSession("a" * 32).fresh
