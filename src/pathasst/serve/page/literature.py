"""Paper search by hand: query, filters, hits with passages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pathasst.core.errors import BadSettings
from pathasst.serve.markup import hits_html
from pathasst.serve.page.sessions import PageSession, PageSessions
from pathasst.serve.page.talk import waiting
from pathasst.serve.page.words import alert, explained

if TYPE_CHECKING:
    import gradio as gr

    from pathasst.serve.service import Service

TYPES = (
    "Review",
    "Systematic Review",
    "Meta-Analysis",
    "Randomized Controlled Trial",
    "Clinical Trial",
    "Observational Study",
    "Case Reports",
    "Practice Guideline",
    "Comparative Study",
)
"""Publication types of MEDLINE that are asked for most; others may be written in."""


def panel(service: Service, sessions: PageSessions, token: gr.Textbox) -> None:
    """The tab's content."""
    import gradio as gr

    from pathasst.serve.page.parts import QUIET, html_part, in_session

    with gr.Row(elem_classes="pa-ask"):
        query = gr.Textbox(
            label="Search the literature",
            placeholder="For example: Ki-67 and prognosis in breast carcinoma",
            max_lines=2,
            scale=5,
            elem_id="pa-query",
        )
        button = gr.Button("Search", variant="primary", scale=0, min_width=110)
    with gr.Accordion("Filters", open=False):
        with gr.Row():
            since = gr.Textbox(label="From year", placeholder="any", max_lines=1, min_width=120, elem_id="pa-since")
            until = gr.Textbox(label="To year", placeholder="any", max_lines=1, min_width=120, elem_id="pa-until")
            most = gr.Dropdown([5, 10, 20, 50], value=10, label="Results", min_width=120, filterable=False)
        types = gr.Dropdown(list(TYPES), multiselect=True, allow_custom_value=True, label="Publication types", value=[])
        retracted_box = gr.Checkbox(value=True, label="Leave out retracted papers", elem_id="pa-retracted")
    result = html_part(elem_id="pa-hits")

    def run(
        session: PageSession, query: str, since: str, until: str, most: int, types: list[str], leave_out_retracted: bool
    ) -> Iterator[str]:
        yield waiting("Searching …")
        try:
            yield search(service, session.user, query, since, until, int(most), types, leave_out_retracted)
        except Exception as error:  # noqa: BLE001 - shown in plain words
            yield explained(error)

    gr.on(
        [query.submit, button.click],
        in_session(sessions, run),
        [token, query, since, until, most, types, retracted_box],
        result,
        **QUIET,
    )


def search(
    service: Service, user: str, query: str, since: str, until: str, most: int, types: list[str], leave_out_retracted: bool
) -> str:
    """The hits as HTML. Raises what the Service raises."""
    if len(query.strip()) < 2:
        return alert("Nothing to search for yet", "Write some words.", "Medical terms in English find most.")
    filters = {
        "since": _year(since),
        "until": _year(until),
        "types": tuple(types or ()),
        "retracted": not leave_out_retracted,
    }
    results = service.submit_search(query.strip(), most, filters=filters, user=user).result()
    return hits_html(results.hits, results.message)


def _year(text: str) -> int | None:
    """Raises BadSettings for what is no year; None for nothing."""
    text = (text or "").strip()
    if text and not (text.isdecimal() and len(text) == 4):
        raise BadSettings(f"a year is written with four digits, such as 2015; not {text[:20]!r}.")
    return int(text) if text else None
