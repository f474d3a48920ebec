"""What happens when the page's parts are used. The work is done by `talk`, `pictures` and the Service; this hands it over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from pathasst.serve.page import pictures, talk
from pathasst.serve.page.examples import Example, pixels
from pathasst.serve.page.parts import QUIET, in_session
from pathasst.serve.page.sessions import PageSession, PageSessions
from pathasst.serve.page.words import explained

if TYPE_CHECKING:
    from pathasst.serve.page.layout import Left, Right
    from pathasst.serve.service import Service

READY_JS = "() => { document.body.dataset.ready = 'yes'; }"
FOCUS_JS = "() => { document.querySelector('#pa-question textarea').focus(); }"
SAVE_JS = "(html) => { window.pathasstSave(html); }"
SURE_JS = """() => [window.pathasstToken(),
  confirm("Delete this conversation with its pictures from the server?") ? "yes" : ""]"""
JUDGE = "<span>Was this answer right and useful?</span>"
THANKS = "<span>Thank you. Stored on this server: question, answer and your verdict, no picture.</span>"
EMPTY = """<div class="pa-empty"><h2>Ask about a picture, or the literature</h2>
<p>Drop a picture or open a slide on the left, then ask in your own words. The assistant looks, measures with its specialist
models, searches abstracts, and shows what it did and on what it relies.</p></div>"""


class Wiring:
    """Events to work, and work to the parts of the page."""

    def __init__(self, service: Service, sessions: PageSessions, token: Any, left: Left, right: Right) -> None:
        self.service, self.sessions, self.token, self.left, self.right = service, sessions, token, left, right

    def connect(self, page: gr.Blocks) -> None:
        left, right, token = self.left, self.right, self.token
        at = partial(in_session, self.sessions)
        both = [*right.outputs, *left.outputs]
        page.load(at(self.restore), token, both, **QUIET).then(None, None, None, js=READY_JS)
        sending = [right.question.submit, right.send.click]
        gr.on(sending, at(self.ask), [token, right.question], both, trigger_mode="multiple", **QUIET)
        right.again.click(at(self.again), token, both, trigger_mode="multiple", **QUIET)
        right.edit.click(at(self.edit), token, both, **QUIET).then(None, None, None, js=FOCUS_JS)
        right.stop.click(at(talk.stop), token, None, **QUIET)
        right.anew.click(at(self.anew), token, both, **QUIET)
        right.delete.click(at(self.delete), [token, right.file], both, **{**QUIET, "js": SURE_JS})
        right.talks.input(at(self.switch), [token, right.talks], both, **QUIET)
        right.report.click(at(self.report), token, [right.file, right.live], **QUIET).then(None, right.file, None, js=SAVE_JS)
        for verdict, button in (("good", right.good), ("bad", right.bad)):
            button.click(at(self._judge(verdict)), token, right.judging, **QUIET)
        right.comment.submit(at(self.comment), [token, right.comment], right.judging, **QUIET)
        left.file.upload(at(self.upload), [token, left.file], [left.file, *left.outputs], **QUIET)
        gr.on([left.cut.click, left.region.submit], at(self.cut), [token, left.region], left.outputs, **QUIET)
        left.frame.click(at(self.frame), token, left.outputs, **QUIET)
        left.shut.click(at(self.shut), token, left.outputs, **QUIET)
        left.scale.input(at(self.scale), [token, left.scale], None, **QUIET)
        left.remove.click(at(self.remove), token, left.outputs, **QUIET)
        for example, button in left.examples:
            button.click(at(self._example(example)), token, [right.question, *left.outputs], **QUIET).then(
                None, None, None, js=FOCUS_JS
            )

    # the conversation

    def ask(self, session: PageSession, question: str) -> Iterator[tuple[Any, ...]]:
        for view in talk.ask(session, self.service, question or ""):
            yield (*self._right(session, view), *self._left_at(session, view))

    def again(self, session: PageSession) -> Iterator[tuple[Any, ...]]:
        """Ask the last question once more, in place of its answer."""
        if not session.busy and (question := talk.take_back(session)):
            yield from self.ask(session, question)
        else:
            yield (*self._right(session, talk.View(talk.past(session), busy=session.busy)), *self._left(session))

    def edit(self, session: PageSession) -> tuple[Any, ...]:
        """The last question back in the box, without its answer."""
        question = None if session.busy else talk.take_back(session) or None
        return (*self._right(session, talk.View(talk.past(session), busy=session.busy, question=question)), *self._left(session))

    def restore(self, session: PageSession) -> Iterator[tuple[Any, ...]]:
        if session.fresh:  # nothing to show; an answer that comes late must not undo what the person did meanwhile
            yield (gr.skip(),) * (len(self.right.outputs) + len(self.left.outputs))
            return
        yield (*self._right(session, talk.View(talk.past(session), busy=session.busy)), *self._left(session, pick=True))
        if session.job is not None:
            for view in talk.follow(session):
                yield (*self._right(session, view), *self._left_at(session, view))

    def anew(self, session: PageSession) -> tuple[Any, ...]:
        live = ""
        try:
            talk.begin_anew(session)
        except Exception as error:  # noqa: BLE001 - shown in plain words
            live = explained(error)
        return (*self._right(session, talk.View(talk.past(session), live, session.busy)), *self._left(session))

    def switch(self, session: PageSession, number: int) -> tuple[Any, ...]:
        if not session.busy and 0 <= int(number) < len(session.talks):
            talk.switch(session, int(number))
        return (*self._right(session, talk.View(talk.past(session), busy=session.busy)), *self._left(session))

    def delete(self, session: PageSession, sure: str) -> tuple[Any, ...]:
        live = ""
        try:
            if sure and not session.busy:
                session.delete()
        except Exception as error:  # noqa: BLE001 - shown in plain words
            live = explained(error)
        return (*self._right(session, talk.View(talk.past(session), live, session.busy)), *self._left(session))

    def report(self, session: PageSession) -> tuple[str, str]:
        from pathasst.serve.report import to_html

        try:
            return to_html(session.talk.answers), ""
        except Exception as error:  # noqa: BLE001 - shown in plain words
            return "", explained(error)

    def comment(self, session: PageSession, text: str) -> tuple[Any, ...]:
        exchange = session.talk.last_exchange
        if exchange is not None and exchange.feedback_id and text.strip():
            self.service.comment(exchange.feedback_id, text, session.user)
        return "<span>Thank you; stored on this server.</span>", gr.skip(), gr.skip(), gr.update(visible=False, value="")

    def _judge(self, verdict: str) -> Callable[[PageSession], tuple[Any, ...]]:
        def judge(session: PageSession) -> tuple[Any, ...]:
            exchange = session.talk.last_exchange
            if exchange is not None and not exchange.feedback_id:  # one verdict for each answer
                exchange.feedback_id = self.service.feedback(verdict, exchange.answer, user=session.user)
            hidden = gr.update(visible=False)
            return THANKS, hidden, hidden, gr.update(visible=verdict == "bad")

        return judge

    # pictures

    def upload(self, session: PageSession, files: list[str] | None) -> tuple[Any, ...]:
        problem, opened = "", False
        try:
            for file in files or []:
                opened |= pictures.take(session, Path(file), self.service.input_images) is None
        except Exception as error:  # noqa: BLE001 - shown in plain words
            problem = explained(error)
        return (None, *self._left(session, problem, pick=opened))

    def frame(self, session: PageSession) -> tuple[Any, ...]:
        problem = ""
        try:
            pictures.frame(session)
        except Exception as error:  # noqa: BLE001 - shown in plain words
            problem = explained(error)
        return self._left(session, problem, pick=not problem)

    def cut(self, session: PageSession, region: str) -> tuple[Any, ...]:
        problem = ""
        try:
            pictures.cut(session, region, most=self.service.settings.serve.pictures)
        except Exception as error:  # noqa: BLE001 - shown in plain words
            problem = explained(error)
        return self._left(session, problem)

    def shut(self, session: PageSession) -> tuple[Any, ...]:
        """Close what a region is chosen of: the picture, which leads back to the slide if one is open, or the slide."""
        if session.framed is None and session.slide is not None:
            session.slide.unlink(missing_ok=True)
            session.slide = None
        session.framed = None
        return self._left(session, pick=True)

    def scale(self, session: PageSession, value: float | None) -> None:
        if session.talk.pictures:
            session.talk.pictures[-1].um_per_px = value or None

    def remove(self, session: PageSession) -> tuple[Any, ...]:
        if session.talk.pictures:
            session.framed = None if session.talk.pictures.pop() is session.framed else session.framed
        return self._left(session)

    def _example(self, example: Example) -> Callable[[PageSession], tuple[Any, ...]]:
        def load(session: PageSession) -> tuple[Any, ...]:
            problem = ""
            try:
                image = pixels(example)
                if image is not None:
                    session.talk.pictures[:], session.framed = [p for p in session.talk.pictures if p.in_conversation], None
                    pictures.put(session, image, example.note, most=self.service.settings.serve.pictures)
            except Exception as error:  # noqa: BLE001 - shown in plain words
                problem = explained(error)
            return (example.question, *self._left(session, problem))

        return load

    # what the parts show

    def _right(self, session: PageSession, view: talk.View) -> tuple[Any, ...]:
        has_questions, answered = bool(session.talk.exchanges), session.talk.last is not None and not view.busy
        exchange = session.talk.last_exchange
        judged = bool(exchange and exchange.feedback_id)
        past = gr.skip() if view.past is None else view.past or EMPTY
        question = gr.skip() if view.question is None else view.question
        return (
            past,
            view.live,
            question,
            gr.update(visible=not view.busy),
            gr.update(visible=view.busy),
            gr.update(visible=has_questions or len(session.talks) > 1),
            gr.skip() if view.busy else gr.update(choices=talk.titles(session), value=session.open),
            gr.update(visible=answered),
            gr.skip() if view.busy else THANKS if judged else JUDGE,
            gr.skip() if view.busy else gr.update(visible=not judged),
            gr.skip() if view.busy else gr.update(visible=not judged),
            gr.skip() if view.busy else gr.update(visible=False, value=""),
        )

    def _left(self, session: PageSession, problem: str = "", *, pick: bool = False) -> tuple[Any, ...]:
        """`pick`: send what the region picker shows, too."""
        current = session.talk.pictures[-1] if session.talk.pictures else None
        opened = session.slide is not None or session.framed is not None
        value = pictures.picker(session) if pick and opened else None
        return (
            pictures.shown_html(session),
            gr.update(visible=current is not None),
            current.um_per_px if current else None,
            gr.update(visible=opened),
            problem,
            gr.skip() if value is None else value,
            gr.skip() if value is None else ", ".join(map(str, value["box"])),
        )

    def _left_at(self, session: PageSession, view: talk.View) -> tuple[Any, ...]:
        """The left side, at the beginning and the end of a question alone: pictures need not travel with every word."""
        return (gr.skip(),) * len(self.left.outputs) if view.past is None else self._left(session)
