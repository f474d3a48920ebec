"""Asking and watching: from a question to the views of the conversation while it is answered. Knows PageSessions and the Service.

A question goes on when its page is reloaded or closed: the job belongs to the session, and `follow` may begin anew at any time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pathasst.assistant.answer import PERSON
from pathasst.assistant.images import PictureInput
from pathasst.core.errors import BadSettings
from pathasst.serve.markup import answer_html, person_html, step_html
from pathasst.serve.markup.words import escape, markdown, title_of
from pathasst.serve.page.pictures import as_shown, restored
from pathasst.serve.page.sessions import MOST_BYTES_OF_ONE, Exchange, PagePicture, PageSession, Talk, logged
from pathasst.serve.page.words import alert, explained

if TYPE_CHECKING:
    from pathasst.assistant.agent import Event
    from pathasst.assistant.answer import Answer
    from pathasst.serve.jobs import Job
    from pathasst.serve.service import Service


PAUSE = 0.2
"""Seconds at least between two views that only add words."""


@dataclass(frozen=True, slots=True)
class View:
    """What the conversation looks like now. `question`: new content of the box, None to leave it."""

    past: str | None = None  # None: as before
    live: str = ""
    busy: bool = False
    question: str | None = None


def ask(session: PageSession, service: Service, question: str) -> Iterator[View]:
    """Put a question, then follow it."""
    question = question.strip()
    if session.busy:
        message = alert("One question at a time", "The last question is still being answered.", "Wait, or press Stop.")
        yield View(live=message, busy=True)
        return
    if not question:
        yield View(live=alert("No question yet", "Write what you want to know.", "For example: What does this picture show?"))
        return
    talk = session.talk
    new = [p for p in talk.pictures if not p.in_conversation]
    exchange = Exchange(question, person_html(question, [as_shown(p) for p in new]), pictures=new)
    try:
        images = [PictureInput(p.image, p.name, p.um_per_px) for p in new]
        job = service.submit(question, images, _rescaled(talk.last, talk.pictures), session.user)
    except Exception as error:  # noqa: BLE001 - shown in plain words
        yield View(live=explained(error), question=question)
        return
    talk.exchanges.append(exchange)
    session.job, session.asking = job, exchange
    yield View(past(session), waiting("Waiting for the model …"), busy=True, question="")
    yield from follow(session)


def follow(session: PageSession) -> Iterator[View]:
    """Views until the question in hand is answered; a single one when there is none."""
    job, exchange, talk = session.job, session.asking, session.talk
    if job is None or exchange is None:
        yield View(past(session))
        return
    live, last_drawn = Live(), 0.0
    try:
        for event in job.events():
            live.add(event)
            if event.kind == "text" and time.monotonic() - last_drawn < PAUSE:
                continue  # words that came while a slow browser took the last view are shown together
            yield View(live=live.html(), busy=True)
            last_drawn = time.monotonic()
    except Exception:  # noqa: BLE001, S110 - `_settled` asks for the result and tells
        pass
    yield _settled(session, talk, job, exchange)


class Live:
    """An answer in the making: what was run, what runs, the words so far."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.running, self.words = "", ""

    def add(self, event: Event) -> None:
        if event.kind == "text":
            self.words += event.text
        elif event.kind == "thinking":
            self.running, self.words = "Thinking …", ""
        elif event.kind == "call" and event.call:
            self.running, self.words = f"Running {title_of(event.call.name)} …", ""
        elif event.kind == "step" and event.step:
            self.steps.append(step_html(event.step))
            self.running = "Reading the result …"

    def html(self) -> str:
        steps = f'<div class="pa-steps">{"".join(self.steps)}</div>' if self.steps else ""
        words = f'<div class="pa-words">{markdown(self.words)}</div>' if self.words.strip() else ""
        return f'<section class="pa-answer">{steps}{words}{waiting(self.running if not words else "Writing …")}</section>'


def waiting(words: str) -> str:
    """A line that says what is going on, spoken by a screen reader."""
    return f'<p class="pa-waiting" role="status"><span class="pa-dot" aria-hidden="true"></span>{escape(words)}</p>'


def past(session: PageSession) -> str:
    """The conversation so far, oldest first; empty when nothing was asked."""
    return "".join(f'<article class="pa-exchange">{e.html}</article>' for e in session.talk.exchanges)


def stop(session: PageSession) -> None:
    """Ask the question in hand to stop; what was found so far becomes its answer."""
    if session.job is not None:
        session.job.cancel()


def take_back(session: PageSession) -> str:
    """Remove the last exchange, and give its question; pictures that came with it go with the next one. Empty without one."""
    if not session.talk.exchanges:
        return ""
    exchange = session.talk.exchanges.pop()
    session.cut(session.talk, len(session.talk.exchanges))
    for picture in exchange.pictures:
        picture.handle = ""
        if picture not in session.talk.pictures:
            session.talk.pictures.append(picture)
    return exchange.question


def switch(session: PageSession, number: int) -> None:
    """Open another conversation; one of the history is read from there."""
    talk = session.talks[number]
    if talk.stored and session.history is not None:
        with logged("read"):
            talk.exchanges, talk.pictures = restored(session.history.load(session.user, talk.id))
            talk.stored = False
    session.open, session.framed = number, None


def begin_anew(session: PageSession) -> None:
    """Open an empty conversation, unless the open one is empty; where the session holds very much, the oldest ones go.

    Raises BadSettings while a question is answered.
    """
    if session.busy:
        raise BadSettings("a question is still being answered; wait, or press Stop.")
    if session.talk.exchanges:
        session.talks.append(Talk())
        while session.size > MOST_BYTES_OF_ONE:
            session.talks.pop(0)
        session.open = len(session.talks) - 1
    session.talk.pictures.clear()
    session.framed = None


def titles(session: PageSession) -> list[tuple[str, int]]:
    """The conversations of this page as (title, number), for a list to choose from."""
    names = []
    for number, talk in enumerate(session.talks):
        first = talk.exchanges[0].question if talk.exchanges else talk.title or "New conversation"
        short = first if len(first) <= 48 else first[:47].rsplit(" ", 1)[0] + " …"
        names.append((f"{number + 1} · {short}", number))
    return names


def _settled(session: PageSession, talk: Talk, job: Job[Answer], exchange: Exchange) -> View:
    """The view after the end. Several followers may come here; the first one writes the answer down."""
    try:
        answer = job.result()
    except (Exception, CancelledError) as error:  # noqa: BLE001 - shown in plain words
        if exchange in talk.exchanges:
            talk.exchanges.remove(exchange)
        _forget(session, job)
        return View(past(session), explained(error), question=exchange.question)
    if exchange.answer is None:
        exchange.html += answer_html(answer)
        exchange.answer = answer
        mine = [entry for entry in answer.pictures if entry.by == PERSON]
        for picture, entry in zip(exchange.pictures, mine[len(mine) - len(exchange.pictures) :], strict=True):
            picture.handle = entry.handle
        session.remember(talk, exchange)
    _forget(session, job)
    return View(past(session), '<p class="pa-unseen" role="status">The answer is ready.</p>')


def _forget(session: PageSession, job: Job[Answer]) -> None:
    if session.job is job:
        session.job = session.asking = None


def _rescaled(answer: Answer | None, pictures: list[PagePicture]) -> Answer | None:
    """The conversation so far, with the scales that the person has set since for its pictures."""
    if answer is None:
        return None
    scales = {p.handle: p.um_per_px for p in pictures if p.in_conversation}
    updated = [replace(s, um_per_px=scales[s.handle]) if s.handle in scales else s for s in answer.pictures]
    return replace(answer, pictures=updated)
