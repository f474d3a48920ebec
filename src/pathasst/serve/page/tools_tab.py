"""Tools by hand: one form for every tool in the registry, built from its card and arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from pathasst.assistant.answer import PERSON, ChatPicture
from pathasst.assistant.images import PictureInput
from pathasst.core.records import ToolCall, ToolResult
from pathasst.serve.markup import notices_html, result_html
from pathasst.serve.markup.words import escape, title_of
from pathasst.serve.page.forms import Field, arguments, fields
from pathasst.serve.page.sessions import PageSession, PageSessions
from pathasst.serve.page.talk import waiting
from pathasst.serve.page.words import alert, explained
from pathasst.tools.protocol import SCALE, Tool

if TYPE_CHECKING:
    import gradio as gr

    from pathasst.serve.service import Service

ELSEWHERE = ("papers_search",)
"""Tools that have a place of their own on the page."""


def panel(service: Service, sessions: PageSessions, token: gr.Textbox) -> None:
    """The tab's content: choose a tool, read its card, fill its form, run it."""
    import gradio as gr

    from pathasst.serve.page.parts import QUIET, html_part

    tools = {name: tool for name, tool in service.registry.tools.items() if name not in ELSEWHERE}
    ready = {name: tool for name, tool in tools.items() if not tool.missing()}
    if not ready:
        html_part(alert("No tool is ready", "The models of the tools are not on this server.", "See: pathasst doctor"))
        return
    first = next(iter(ready))
    tool_menu = gr.Dropdown(
        [(title_of(name), name) for name in ready], value=first, label="Tool", elem_id="pa-tool", filterable=False
    )
    groups, result = [], html_part(render=False, elem_id="pa-tool-result")
    for name, tool in ready.items():
        with gr.Column(visible=name == first, elem_classes="pa-form") as group:
            html_part(card_html(tool))
            form = fields(tool.spec())
            entries = [component(field, f"pa-{name}-{field.name}") for field in form]
            button = gr.Button(f"Run {title_of(name)}", variant="primary", elem_classes="pa-fit")
            gr.on(
                [button.click, *(entry.submit for entry in entries if isinstance(entry, gr.Textbox))],
                _runner(service, sessions, name, form),
                [token, *entries],
                result,
                **QUIET,
            )
        groups.append(group)
    tool_menu.change(
        lambda name: [*(gr.update(visible=name == other) for other in ready), ""],
        tool_menu,
        [*groups, result],
        api_visibility="private",
        show_progress="hidden",
    )
    missing = [title_of(name) for name in tools if name not in ready]
    if missing:
        html_part(f'<p class="pa-quiet">Not on this server, for lack of their models: {escape(", ".join(missing))}.</p>')
    result.render()


def component(field: Field, id: str) -> gr.Component:
    """The entry of one field."""
    import gradio as gr

    common: dict[str, Any] = {"label": field.label, "info": field.info or None, "elem_id": id}
    if field.kind == "boolean":
        return gr.Checkbox(value=bool(field.default), **common)
    if field.kind == "choice":
        return gr.Dropdown(list(field.choices), value=field.default or field.choices[0], filterable=False, **common)
    if field.kind in ("number", "integer"):
        if field.name == SCALE:
            common["info"] = f"{field.info} Left empty: the scale of the picture, where it is known."
        return gr.Textbox(value="" if field.default is None else f"{field.default:g}", max_lines=1, **common)
    hint = {"numbers": "40, 40, 160, 160", "rows": "40, 40; 80, 120"}.get(field.kind, "")
    return gr.Textbox(value=field.default or "", placeholder=hint, **common)


def card_html(tool: Tool[Any]) -> str:
    """What a person must know before using a tool."""
    card = tool.card
    facts = (
        ("Expects", card.expects),
        ("Classes", ", ".join(card.classes)),
        ("Measured", card.scores or "nothing measured yet"),
        ("Limits", card.limits),
        ("Licence", card.licence),
    )
    rows = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in facts if text)
    mark = "" if card.validated else '<span class="pa-mark">not validated for this task</span>'
    return (
        f'<div class="pa-card"><p>{escape(card.purpose)} {mark}</p>'
        f'<details class="pa-fold"><summary>What it expects, and how good it is</summary><dl>{rows}</dl></details></div>'
    )


def run(service: Service, session: PageSession, name: str, form: list[Field], entries: list[Any]) -> str:
    """Run a tool on the session's current picture; its result, or what went wrong, as HTML."""
    tool = service.registry.tools[name]
    picture = session.talk.pictures[-1] if session.talk.pictures and tool.needs_image else None
    if tool.needs_image and picture is None:
        return alert("No picture yet", f"{title_of(name)} works on a picture.", "Drop one, or press an example; then run it.")
    try:
        call = ToolCall(name=name, arguments=arguments(form, entries))
        image = PictureInput(picture.image, picture.name, picture.um_per_px) if picture else None
        result = service.submit_tool(call, image, session.user).result()
    except Exception as error:  # noqa: BLE001 - shown in plain words
        return explained(error)
    if result.error:
        return alert("The tool could not work with this", result.error, "Change the entries or the picture, and run it again.")
    original = None
    if picture is not None:
        original = ChatPicture(number=1, name=picture.name, by=PERSON, image=picture.image, um_per_px=picture.um_per_px)
    return hand_html(call, result, original)


def hand_html(call: ToolCall, result: ToolResult, original: ChatPicture | None) -> str:
    """A result by hand: what it says, what it shows, what was run."""
    outputs = [
        ChatPicture(number=n, name=p.name, by=result.name, image=p.image, synthetic=p.synthetic)
        for n, p in enumerate(result.pictures, 2)
    ]
    ran = ", ".join(f"{title_of(k)} {v}" for k, v in call.arguments.items()) or "no settings"
    return (
        f'<section class="pa-answer" role="status"><div class="pa-words"><p>{escape(result.text)}</p></div>'
        f"{notices_html(result.warnings)}{result_html(result, original, outputs)}"
        f'<p class="pa-foot">{escape(title_of(result.name))} · {escape(result.version or "no version")} · {escape(ran)} · '
        f"{result.seconds:.1f} s. {escape(result.notice)}</p></section>"
    )


def _runner(service: Service, sessions: PageSessions, name: str, form: list[Field]) -> Callable[..., Iterator[str]]:
    def runner(session: PageSession, *entries: Any) -> Iterator[str]:
        yield waiting(f"Running {title_of(name)} …")
        try:
            yield run(service, session, name, form, list(entries))
        except Exception as error:  # noqa: BLE001 - shown in plain words
            yield explained(error)

    from pathasst.serve.page.parts import in_session

    return in_session(sessions, runner)
