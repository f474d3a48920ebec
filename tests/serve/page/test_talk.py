"""Asking and following without a browser: what the page would show."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from assistant_parts import CountDark, Scaled
from server_parts import RuleBrain, settings

from pathasst.core.errors import BadInput, BadSettings
from pathasst.serve import page
from pathasst.serve.page import pictures, talk
from pathasst.serve.page.sessions import Exchange, PagePicture, PageSession, PageSessions
from pathasst.serve.service import Service
from pathasst.tools.protocol import Registry

TOKEN = "0123456789abcdef" * 2


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    registry = Registry()
    registry.add(CountDark())
    registry.add(Scaled())
    brain = RuleBrain()
    made = Service(settings(tmp_path, at_once=1, waiting=1), brain=brain, registry=registry)
    yield made
    brain.hold.set()
    made.close()


@pytest.fixture
def session() -> PageSession:
    return PageSession(TOKEN)


def test_a_question_becomes_an_exchange(service: Service, session: PageSession, spots: np.ndarray) -> None:
    given = pictures.put(session, spots, "spots", um_per_px=0.5)
    views = list(talk.ask(session, service, " count them "))
    assert views[0].busy and views[0].question == ""
    assert any("Running Count dark" in view.live for view in views)
    assert not views[-1].busy and "5 dark spots" in (views[-1].past or "") and "pa-layers" in (views[-1].past or "")
    assert given.in_conversation and not session.busy
    assert session.talk.answers[0].question == "count them"
    assert session.talk.answers[0].pictures[0].um_per_px == 0.5
    list(talk.ask(session, service, "and now?"))
    assert len(session.talk.answers[-1].pictures) == 2  # the person's, and the one that the tool made: none was sent again


def test_a_scale_set_after_the_first_question_holds_for_the_next(
    service: Service, session: PageSession, spots: np.ndarray
) -> None:
    given = pictures.put(session, spots, "spots", um_per_px=0.5)
    list(talk.ask(session, service, "measure"))
    given.um_per_px = 0.25
    pictures.put(session, spots, "more", um_per_px=1.0)
    list(talk.ask(session, service, "measure"))
    list(talk.ask(session, service, "measure again"))
    ran = [result.numbers["um_per_px"] for answer in session.talk.answers for result in answer.results]
    assert ran == [0.5, 1.0, 1.0]
    scales = {p.name: p.um_per_px for p in session.talk.answers[-1].pictures if p.by == "person"}
    assert scales == {"spots": 0.25, "more": 1.0}


def test_stopping_ends_every_follower(service: Service, session: PageSession) -> None:
    first = talk.ask(session, service, "wait")
    while "Word 1." not in next(first).live:
        pass
    second = talk.follow(session)  # the page was reloaded
    assert "Word" in next(view for view in second if "Word" in view.live).live
    talk.stop(session)
    for follower in (first, second):
        assert "cancelled before the model had answered" in (list(follower)[-1].past or "")
    assert len(session.talk.exchanges) == 1


def test_one_question_at_a_time_and_a_full_queue(service: Service, session: PageSession) -> None:
    asking = talk.ask(session, service, "wait")
    next(asking)
    assert "One question at a time" in next(talk.ask(session, service, "again")).live
    with pytest.raises(BadSettings, match="still being answered"):
        talk.begin_anew(session)
    others = [PageSession(f"{n:032x}") for n in range(3)]
    full = [view for other in others for view in [next(talk.ask(other, service, "hello"))] if "busy" in view.live]
    assert full and "send it again" in full[0].live and full[0].question == "hello"
    service.brain.brain.hold.set()
    list(asking)


def test_conversations_are_kept_apart(service: Service, session: PageSession) -> None:
    talk.begin_anew(session)
    assert len(session.talks) == 1  # an empty one is not left behind
    list(talk.ask(session, service, "first"))
    talk.begin_anew(session)
    list(talk.ask(session, service, "second"))
    assert [title for title, _ in talk.titles(session)] == ["1 · first", "2 · second"]
    assert "Question 1," in session.talks[1].answers[0].text


def test_desks_are_private_and_cleared() -> None:
    sessions = PageSessions(keep_seconds=1000, most=2)
    first = sessions.get("a" * 32)
    folder = first.private()
    assert sessions.get("a" * 32) is first and sessions.get("b" * 32) is not first
    for bad in ("", "../../etc", "A" * 32, "a" * 33):
        with pytest.raises(BadInput, match="not finished loading"):
            sessions.get(bad)
    sessions.get("c" * 32)  # a third one: the longest unused goes
    assert not folder.exists() and sessions.get("a" * 32) is not first
    gone = PageSessions(keep_seconds=-1)
    assert gone.get("a" * 32) is not gone.get("a" * 32)


def test_desks_hold_so_much_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = PageSessions(keep_seconds=1000, most_bytes=100)
    first, second = sessions.get("a" * 32), sessions.get("b" * 32)
    first.talk.pictures.append(PagePicture("one", b"x" * 60, 1, 1))
    second.talk.pictures.append(PagePicture("two", b"x" * 60, 1, 1))
    assert sessions.get("a" * 32) is first  # the one that is wanted stays, the other goes
    assert sessions.get("b" * 32) is not second

    monkeypatch.setattr(talk, "MOST_BYTES_OF_ONE", 100)
    first.talk.exchanges.append(Exchange("q", html="x" * 60))
    talk.begin_anew(first)
    assert first.open == 0 and [t.exchanges for t in first.talks] == [[]]


def test_slides_go_with_time_and_with_the_server(service: Service, tmp_path: Path) -> None:
    sessions = PageSessions(keep_seconds=1000, home=tmp_path)
    old, open_ = sessions.get("a" * 32).private(), sessions.get("b" * 32).private()
    left = tmp_path / "session-of-a-killed-server"
    left.mkdir()
    os.utime(left, (0, 0))
    sessions.sweep()
    assert old.exists() and open_.exists() and not left.exists()
    sessions.get("a" * 32).used -= 2000
    sessions.sweep()  # nobody asked for a page meanwhile
    assert not old.exists() and open_.exists()
    service.at_close.callback(sessions.close)
    service.close()
    assert not open_.exists()


def test_the_page_hands_its_desks_to_the_service(service: Service) -> None:
    pytest.importorskip("gradio", reason="Gradio is not installed")
    before = len(service.sweeps)
    page.build(service)
    assert len(service.sweeps) == before + 1
