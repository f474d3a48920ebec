"""What happens when the page's parts are used. The work is done by `talk`, `pictures` and the Service; this hands it over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from pathasst.serve.page import pictures, talk
from pathasst.serve.page.examples import Example, pixels
from pathasst.serve.page.parts import QUIET
from pathasst.serve.page.sessions import Desk, Desks
from pathasst.serve.page.words import explained

if TYPE_CHECKING:
    from pathasst.serve.page.layout import Left, Right
    from pathasst.serve.service import Service

READY_JS = "() => { document.body.dataset.ready = 'yes'; }"
SAVE_JS = "(html) => { window.pathasstSave(html); }"
EMPTY = """<div class="pa-empty"><h2>Ask about a picture, or the literature</h2>
<p>Drop a picture or open a slide on the left, then ask in your own words. The assistant looks, measures with its specialist
models, searches abstracts, and shows what it did and on what it relies.</p></div>"""


class Wiring:
    """Events to work, and work to the parts of the page."""

    def __init__(self, service: Service, desks: Desks, token: Any, left: Left, right: Right) -> None:
        self.service, self.desks, self.token, self.left, self.right = service, desks, token, left, right

    def connect(self, page: gr.Blocks) -> None:
        left, right, token = self.left, self.right, self.token
        both = [*right.outputs, *left.outputs]
        page.load(self.restore, token, both, **QUIET).then(None, None, None, js=READY_JS)
        gr.on(
            [right.question.submit, right.send.click], self.ask, [token, right.question], both, trigger_mode="multiple", **QUIET
        )
        right.stop.click(self._on_desk(talk.stop), token, None, **QUIET)
        right.anew.click(self.anew, token, both, **QUIET)
        right.talks.input(self.switch, [token, right.talks], both, **QUIET)
        right.report.click(self.report, token, [right.file, right.live], **QUIET).then(None, right.file, None, js=SAVE_JS)
        for verdict, button in (("good", right.good), ("bad", right.bad)):
            button.click(self._judge(verdict), token, [right.thanks, right.good, right.bad, right.comment], **QUIET)
        right.comment.submit(self.comment, [token, right.comment], [right.thanks, right.comment], **QUIET)
        left.file.upload(self.upload, [token, left.file], [left.file, *left.outputs], **QUIET)
        gr.on([left.cut.click, left.region.submit], self.cut, [token, left.region], left.outputs, **QUIET)
        left.frame.click(self.frame, token, left.outputs, **QUIET)
        left.shut.click(self.shut, token, left.outputs, **QUIET)
        left.scale.input(self.scale, [token, left.scale], None, **QUIET)
        left.remove.click(self.remove, token, left.outputs, **QUIET)
        for example, button in left.examples:
            button.click(self._example(example), token, [right.question, *left.outputs], **QUIET).then(
                None, None, None, js="() => { document.querySelector('#pa-question textarea').focus(); }"
            )

    # the conversation

    def ask(self, token: str, question: str) -> Iterator[tuple[Any, ...]]:
        desk = self.desks.get(token)
        for view in talk.ask(desk, self.service, question or ""):
            yield (*self._right(desk, view), *self._left_at(desk, view))

    def restore(self, token: str) -> Iterator[tuple[Any, ...]]:
        desk = self.desks.get(token)
        if desk.fresh:  # nothing to show; an answer that comes late must not undo what the person did meanwhile
            yield (gr.skip(),) * (len(self.right.outputs) + len(self.left.outputs))
            return
        yield (*self._right(desk, talk.View(talk.past(desk), busy=desk.busy)), *self._left(desk, pick=True))
        if desk.job is not None:
            for view in talk.follow(desk):
                yield (*self._right(desk, view), *self._left_at(desk, view))

    def anew(self, token: str) -> tuple[Any, ...]:
        desk, live = self.desks.get(token), ""
        try:
            talk.begin_anew(desk)
        except Exception as error:  # noqa: BLE001 - shown in plain words
            live = explained(error)
        return (*self._right(desk, talk.View(talk.past(desk), live, desk.busy)), *self._left(desk))

    def switch(self, token: str, number: int) -> tuple[Any, ...]:
        desk = self.desks.get(token)
        if not desk.busy and 0 <= int(number) < len(desk.talks):
            desk.open, desk.framed = int(number), None
        return (*self._right(desk, talk.View(talk.past(desk), busy=desk.busy)), *self._left(desk))

    def report(self, token: str) -> tuple[str, str]:
        from pathasst.serve.report import to_html

        try:
            return to_html(self.desks.get(token).talk.answers), ""
        except Exception as error:  # noqa: BLE001 - shown in plain words
            return "", explained(error)

    def comment(self, token: str, text: str) -> tuple[Any, ...]:
        desk = self.desks.get(token)
        self.service.feedback("bad", desk.talk.last, text, desk.user)
        return "<span>Thank you; stored on this server.</span>", gr.update(visible=False, value="")

    def _judge(self, verdict: str) -> Callable[[str], tuple[Any, ...]]:
        def judge(token: str) -> tuple[Any, ...]:
            desk = self.desks.get(token)
            self.service.feedback(verdict, desk.talk.last, user=desk.user)
            thanks = "<span>Thank you. Stored on this server: question, answer and your verdict, no picture.</span>"
            hidden = gr.update(visible=False)
            return thanks, hidden, hidden, gr.update(visible=verdict == "bad")

        return judge

    # pictures

    def upload(self, token: str, files: list[str] | None) -> tuple[Any, ...]:
        desk, problem, opened = self.desks.get(token), "", False
        try:
            for file in files or []:
                opened |= pictures.take(desk, Path(file), self.service.settings.serve) is None
        except Exception as error:  # noqa: BLE001 - shown in plain words
            problem = explained(error)
        return (None, *self._left(desk, problem, pick=opened))

    def frame(self, token: str) -> tuple[Any, ...]:
        desk, problem = self.desks.get(token), ""
        try:
            pictures.frame(desk)
        except Exception as error:  # noqa: BLE001 - shown in plain words
            problem = explained(error)
        return self._left(desk, problem, pick=not problem)

    def cut(self, token: str, region: str) -> tuple[Any, ...]:
        desk, problem = self.desks.get(token), ""
        try:
            pictures.cut(desk, region, most=self.service.settings.serve.pictures)
        except Exception as error:  # noqa: BLE001 - shown in plain words
            problem = explained(error)
        return self._left(desk, problem)

    def shut(self, token: str) -> tuple[Any, ...]:
        """Close what a region is chosen of: the picture, which leads back to the slide if one is open, or the slide."""
        desk = self.desks.get(token)
        if desk.framed is None and desk.slide is not None:
            desk.slide.unlink(missing_ok=True)
            desk.slide = None
        desk.framed = None
        return self._left(desk, pick=True)

    def scale(self, token: str, value: float | None) -> None:
        desk = self.desks.get(token)
        if desk.talk.pictures:
            desk.talk.pictures[-1].um_per_px = value or None

    def remove(self, token: str) -> tuple[Any, ...]:
        desk = self.desks.get(token)
        if desk.talk.pictures:
            desk.framed = None if desk.talk.pictures.pop() is desk.framed else desk.framed
        return self._left(desk)

    def _example(self, example: Example) -> Callable[[str], tuple[Any, ...]]:
        def load(token: str) -> tuple[Any, ...]:
            desk, problem = self.desks.get(token), ""
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

    def _on_desk(self, work: Callable[[Desk], None]) -> Callable[[str], None]:
        def run(token: str) -> None:
            work(self.desks.get(token))

        return run
