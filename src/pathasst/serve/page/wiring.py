"""What happens when the page's parts are used. The work is done by `talk`, `pictures` and the Service; this hands it over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from pathasst.serve.page import pictures, talk
from pathasst.serve.page.examples import Example, pixels
from pathasst.serve.page.parts import QUIET, at_desk
from pathasst.serve.page.sessions import Desk, Desks
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

    def __init__(self, service: Service, desks: Desks, token: Any, left: Left, right: Right) -> None:
        self.service, self.desks, self.token, self.left, self.right = service, desks, token, left, right

    def connect(self, page: gr.Blocks) -> None:
        left, right, token = self.left, self.right, self.token
        at = partial(at_desk, self.desks)
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

    def ask(self, desk: Desk, question: str) -> Iterator[tuple[Any, ...]]:
        for view in talk.ask(desk, self.service, question or ""):
            yield (*self._right(desk, view), *self._left_at(desk, view))

    def again(self, desk: Desk) -> Iterator[tuple[Any, ...]]:
        """Ask the last question once more, in place of its answer."""
        if not desk.busy and (question := talk.take_back(desk)):
            yield from self.ask(desk, question)
        else:
            yield (*self._right(desk, talk.View(talk.past(desk), busy=desk.busy)), *self._left(desk))

    def edit(self, desk: Desk) -> tuple[Any, ...]:
        """The last question back in the box, without its answer."""
        question = None if desk.busy else talk.take_back(desk) or None
        return (*self._right(desk, talk.View(talk.past(desk), busy=desk.busy, question=question)), *self._left(desk))

    def restore(self, desk: Desk) -> Iterator[tuple[Any, ...]]:
        if desk.fresh:  # nothing to show; an answer that comes late must not undo what the person did meanwhile
            yield (gr.skip(),) * (len(self.right.outputs) + len(self.left.outputs))
            return
        yield (*self._right(desk, talk.View(talk.past(desk), busy=desk.busy)), *self._left(desk, pick=True))
        if desk.job is not None:
            for view in talk.follow(desk):
                yield (*self._right(desk, view), *self._left_at(desk, view))

    def anew(self, desk: Desk) -> tuple[Any, ...]:
        live = ""
        try:
            talk.begin_anew(desk)
        except Exception as error:  # noqa: BLE001 - shown in plain words
            live = explained(error)
        return (*self._right(desk, talk.View(talk.past(desk), live, desk.busy)), *self._left(desk))

    def switch(self, desk: Desk, number: int) -> tuple[Any, ...]:
        if not desk.busy and 0 <= int(number) < len(desk.talks):
            desk.switch(int(number))
        return (*self._right(desk, talk.View(talk.past(desk), busy=desk.busy)), *self._left(desk))

    def delete(self, desk: Desk, sure: str) -> tuple[Any, ...]:
        live = ""
        try:
            if sure and not desk.busy:
                desk.delete()
        except Exception as error:  # noqa: BLE001 - shown in plain words
            live = explained(error)
        return (*self._right(desk, talk.View(talk.past(desk), live, desk.busy)), *self._left(desk))

    def report(self, desk: Desk) -> tuple[str, str]:
        from pathasst.serve.report import to_html

        try:
            return to_html(desk.talk.answers), ""
        except Exception as error:  # noqa: BLE001 - shown in plain words
            return "", explained(error)

    def comment(self, desk: Desk, text: str) -> tuple[Any, ...]:
        exchange = desk.talk.last_exchange
        if exchange is not None and exchange.verdict and text.strip():
            self.service.comment(exchange.verdict, text, desk.user)
        return "<span>Thank you; stored on this server.</span>", gr.skip(), gr.skip(), gr.update(visible=False, value="")

    def _judge(self, verdict: str) -> Callable[[Desk], tuple[Any, ...]]:
        def judge(desk: Desk) -> tuple[Any, ...]:
            exchange = desk.talk.last_exchange
            if exchange is not None and not exchange.verdict:  # one verdict for each answer
                exchange.verdict = self.service.feedback(verdict, exchange.answer, user=desk.user)
            hidden = gr.update(visible=False)
            return THANKS, hidden, hidden, gr.update(visible=verdict == "bad")

        return judge

    # pictures

    def upload(self, desk: Desk, files: list[str] | None) -> tuple[Any, ...]:
        problem, opened = "", False
        try:
            for file in files or []:
                opened |= pictures.take(desk, Path(file), self.service.intake) is None
        except Exception as error:  # noqa: BLE001 - shown in plain words
            problem = explained(error)
        return (None, *self._left(desk, problem, pick=opened))

    def frame(self, desk: Desk) -> tuple[Any, ...]:
        problem = ""
        try:
            pictures.frame(desk)
        except Exception as error:  # noqa: BLE001 - shown in plain words
            problem = explained(error)
        return self._left(desk, problem, pick=not problem)

    def cut(self, desk: Desk, region: str) -> tuple[Any, ...]:
        problem = ""
        try:
            pictures.cut(desk, region, most=self.service.settings.serve.pictures)
        except Exception as error:  # noqa: BLE001 - shown in plain words
            problem = explained(error)
        return self._left(desk, problem)

    def shut(self, desk: Desk) -> tuple[Any, ...]:
        """Close what a region is chosen of: the picture, which leads back to the slide if one is open, or the slide."""
        if desk.framed is None and desk.slide is not None:
            desk.slide.unlink(missing_ok=True)
            desk.slide = None
        desk.framed = None
        return self._left(desk, pick=True)

    def scale(self, desk: Desk, value: float | None) -> None:
        if desk.talk.pictures:
            desk.talk.pictures[-1].um_per_px = value or None

    def remove(self, desk: Desk) -> tuple[Any, ...]:
        if desk.talk.pictures:
            desk.framed = None if desk.talk.pictures.pop() is desk.framed else desk.framed
        return self._left(desk)

    def _example(self, example: Example) -> Callable[[Desk], tuple[Any, ...]]:
        def load(desk: Desk) -> tuple[Any, ...]:
            problem = ""
            try:
                image = pixels(example)
                if image is not None:
                    desk.talk.pictures[:], desk.framed = [p for p in desk.talk.pictures if p.in_conversation], None
                    pictures.put(desk, image, example.note, most=self.service.settings.serve.pictures)
            except Exception as error:  # noqa: BLE001 - shown in plain words
                problem = explained(error)
            return (example.question, *self._left(desk, problem))

        return load

    # what the parts show

    def _right(self, desk: Desk, view: talk.View) -> tuple[Any, ...]:
        has_questions, answered = bool(desk.talk.exchanges), desk.talk.last is not None and not view.busy
        exchange = desk.talk.last_exchange
        judged = bool(exchange and exchange.verdict)
        past = gr.skip() if view.past is None else view.past or EMPTY
        question = gr.skip() if view.question is None else view.question
        return (
            past,
            view.live,
            question,
            gr.update(visible=not view.busy),
            gr.update(visible=view.busy),
            gr.update(visible=has_questions or len(desk.talks) > 1),
            gr.skip() if view.busy else gr.update(choices=talk.titles(desk), value=desk.open),
            gr.update(visible=answered),
            gr.skip() if view.busy else THANKS if judged else JUDGE,
            gr.skip() if view.busy else gr.update(visible=not judged),
            gr.skip() if view.busy else gr.update(visible=not judged),
            gr.skip() if view.busy else gr.update(visible=False, value=""),
        )

    def _left(self, desk: Desk, problem: str = "", *, pick: bool = False) -> tuple[Any, ...]:
        """`pick`: send what the region picker shows, too."""
        current = desk.talk.pictures[-1] if desk.talk.pictures else None
        opened = desk.slide is not None or desk.framed is not None
        value = pictures.picker(desk) if pick and opened else None
        return (
            pictures.shown_html(desk),
            gr.update(visible=current is not None),
            current.um_per_px if current else None,
            gr.update(visible=opened),
            problem,
            gr.skip() if value is None else value,
            gr.skip() if value is None else ", ".join(map(str, value["box"])),
        )

    def _left_at(self, desk: Desk, view: talk.View) -> tuple[Any, ...]:
        """The left side, at the beginning and the end of a question alone: pictures need not travel with every word."""
        return (gr.skip(),) * len(self.left.outputs) if view.past is None else self._left(desk)
