"""The page's parts, from top to bottom. What happens when they are used is in `wiring`, `byhand` and `literature`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import gradio as gr

from pathasst.core.records import NOTICE
from pathasst.serve.markup.words import escape
from pathasst.serve.page import literature, tools_tab
from pathasst.serve.page.examples import EXAMPLES
from pathasst.serve.page.parts import html_part
from pathasst.serve.page.pictures import SLIDES
from pathasst.serve.page.sessions import PageSessions
from pathasst.serve.page.wiring import EMPTY, JUDGE, Wiring

if TYPE_CHECKING:
    from pathasst.assistant.settings import ServeSettings
    from pathasst.serve.service import Service


def blocks(service: Service) -> gr.Blocks:
    """The whole page. Its look is given when it is mounted (see `page.mount`)."""
    keep = service.settings.serve.keep_seconds
    sessions = PageSessions(keep, home=service.scratch.folder / "sessions", history=service.history)
    service.sweeps.append(sessions.sweep)
    service.at_close.callback(sessions.close)
    with gr.Blocks(
        title="PathAsst", analytics_enabled=False, delete_cache=(600, int(keep)), fill_width=True, elem_id="pa-page"
    ) as page:
        html_part(_header(service), elem_id="pa-header")
        token = gr.Textbox(visible="hidden", elem_id="pa-token", label="Session")
        with gr.Row(elem_id="pa-columns", equal_height=False):
            with gr.Column(scale=4, min_width=300, elem_id="pa-left"):
                left = Left(service)
            with gr.Column(scale=8, min_width=300, elem_id="pa-right"), gr.Tabs():
                with gr.Tab("Ask", id="ask"):
                    right = Right()
                with gr.Tab("Tools", id="tools"):
                    tools_tab.panel(service, sessions, token)
                with gr.Tab("Papers", id="papers"):
                    literature.panel(service, sessions, token)
        Wiring(service, sessions, token, left, right).connect(page)
    return page


class Left:
    """Pictures, slide and examples."""

    def __init__(self, service: Service) -> None:
        serve = service.settings.serve
        html_part("<h2>Picture</h2>")
        self.file = gr.File(
            label="Drop a picture or a slide here, or press to choose one",
            file_count="multiple",
            show_label=False,
            height=132,
            elem_id="pa-file",
        )
        html_part(
            f'<p class="pa-quiet pa-hint">PNG, JPEG, TIFF and others up to {serve.picture_bytes >> 20} MB; slides of one file '
            f"({SLIDES}). Kept on this server for {_kept_for(serve)}.</p>"
        )
        self.alert = html_part(elem_id="pa-alert")
        with gr.Column(visible=False, elem_id="pa-slide") as self.slide:
            self.picker = html_part(
                {},
                html_template=_PICKER,
                js_on_load="window.pathasstPicker(element, watch);",
                elem_id="pa-picker",
            )
            self.region = gr.Textbox(label="Region: x, y, width, height in px", max_lines=1, elem_id="pa-region")
            with gr.Row():
                self.cut = gr.Button("Use this region", variant="primary", size="md", min_width=100)
                self.shut = gr.Button("Close", size="md", min_width=100)
        self.shown_picture = html_part(elem_id="pa-shown")
        with gr.Column(visible=False, elem_id="pa-about") as self.about:
            self.scale = gr.Number(
                label="Scale in µm per pixel, if known", info="20×: about 0.5 · 40×: about 0.25", elem_id="pa-scale", minimum=0
            )
            with gr.Row(elem_id="pa-do"):
                self.frame = gr.Button("Choose a region", size="sm", elem_classes="pa-fit")
                self.remove = gr.Button("Remove picture", size="sm", elem_classes="pa-fit")
        html_part('<h2 class="pa-later">Examples</h2>')
        with gr.Column(elem_id="pa-examples"):
            self.examples = [(e, gr.Button(f"{e.title}\n{e.note}", elem_classes="pa-example", size="sm")) for e in EXAMPLES]

    @property
    def outputs(self) -> list[Any]:
        return [self.shown_picture, self.about, self.scale, self.slide, self.alert, self.picker, self.region]


class Right:
    """The conversation and the box for the next question."""

    def __init__(self) -> None:
        with gr.Row(elem_id="pa-bar", visible=False) as self.bar:
            self.talks = gr.Dropdown(
                [("1 · New conversation", 0)],
                value=0,
                label="Conversation",
                show_label=False,
                filterable=False,
                min_width=180,
                scale=4,
                elem_id="pa-talks",
            )
            self.anew = gr.Button("New conversation", size="md", min_width=170, scale=0, elem_id="pa-anew")
            self.delete = gr.Button("Delete", size="md", min_width=80, scale=0, elem_id="pa-delete")
            self.report = gr.Button("Save report", size="md", min_width=120, scale=0, elem_id="pa-report")
        self.past = html_part(EMPTY, elem_id="pa-past", js_on_load="window.pathasstFollow(element);")
        self.live = html_part(elem_id="pa-live")
        with gr.Row(elem_id="pa-verdict", visible=False) as self.verdict:
            self.thanks = html_part(JUDGE, elem_id="pa-thanks")
            self.good = gr.Button("Yes", size="sm", min_width=70, scale=0, elem_id="pa-good")
            self.bad = gr.Button("No", size="sm", min_width=70, scale=0, elem_id="pa-bad")
            self.edit = gr.Button("Edit question", size="sm", min_width=110, scale=0, elem_id="pa-edit")
            self.again = gr.Button("Ask again", size="sm", min_width=90, scale=0, elem_id="pa-again")
            self.comment = gr.Textbox(
                visible=False, label="What was wrong or missing? (optional)", submit_btn="Send", max_lines=3, elem_id="pa-comment"
            )
        with gr.Row(elem_classes="pa-ask", elem_id="pa-ask"):
            self.question = gr.Textbox(
                label="Your question",
                placeholder="Ask about the picture or the literature",
                lines=1,
                max_lines=8,
                scale=6,
                elem_id="pa-question",
            )
            self.send = gr.Button("Ask", variant="primary", scale=0, min_width=96, elem_id="pa-send")
            self.stop = gr.Button("Stop", variant="stop", scale=0, min_width=96, visible=False, elem_id="pa-stop")
        self.file = gr.Textbox(visible="hidden", label="Report", elem_id="pa-report-file")

    @property
    def outputs(self) -> list[Any]:
        outputs = [self.past, self.live, self.question, self.send, self.stop, self.bar, self.talks, self.verdict]
        return [*outputs, *self.judging]

    @property
    def judging(self) -> list[Any]:
        """What a verdict changes."""
        return [self.thanks, self.good, self.bad, self.comment]


def _kept_for(serve: ServeSettings) -> str:
    if serve.history_days:
        days = "1 day" if serve.history_days == 1 else f"{serve.history_days:g} days"
        return f"{days}, with the conversation; Delete removes both at once"
    return f"{serve.keep_seconds / 60:.0f} minutes after your last action"


def _header(service: Service) -> str:
    slides = '<a class="pa-slides" href="slide/" target="_blank" rel="noopener">Slides</a>' if service.shelf else ""
    return (
        '<a class="pa-skip" href="#pa-question">Skip to the question</a>'
        '<header class="pa-top"><div class="pa-brand"><svg viewBox="0 0 28 28" width="28" height="28" aria-hidden="true">'
        '<rect width="28" height="28" rx="7"/><circle cx="14" cy="14" r="7.2"/>'
        '<circle class="pa-core" cx="14" cy="14" r="2.9"/></svg>'
        f'<h1>PathAsst</h1><span class="pa-quiet pa-model" title="{escape(service.brain_name)}">'
        f"answers by {escape(re.sub('@[0-9a-f]+', '', service.brain_name))}</span></div>"
        f'{slides}<p class="pa-research" role="note">{escape(NOTICE)}</p>'
        '<p id="pa-loading" role="status" hidden>The models are loading; the first answer waits for them.</p></header>'
    )


_PICKER = """{{#if value.src}}<div class="pa-pick" tabindex="0" role="application"
 aria-label="{{value.name}}. Arrow keys move the region, plus and minus change its size."
 data-width="{{value.width}}" data-height="{{value.height}}" data-box="{{value.box}}">
<img src="{{value.src}}" alt="{{value.name}}, small" draggable="false"><div class="pa-box"></div></div>
<p class="pa-quiet">{{value.name}} · {{value.width}} × {{value.height}} px{{#if value.scale}} · {{value.scale}} µm per px{{/if}}.
Drag a box, or press a place.</p>{{/if}}"""
