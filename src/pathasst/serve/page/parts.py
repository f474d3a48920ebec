"""Gradio's parts as this page uses them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import gradio as gr

from pathasst.serve.page.sessions import PageSession, PageSessions
from pathasst.serve.service import LOCAL


def in_session(sessions: PageSessions, work: Callable[..., Any]) -> Callable[..., Any]:
    """An event's handler that begins with the tab's token: `work` with that tab's session of the user behind the request.

    `work(session, *values)` may be a generator.
    """

    def session_of(request: gr.Request, token: str) -> PageSession:
        inner = getattr(request, "request", None)
        return sessions.get(token, getattr(getattr(inner, "state", None), "user", LOCAL))

    if inspect.isgeneratorfunction(work):

        def stream(request: gr.Request, token: str, *values: Any) -> Any:
            yield from work(session_of(request, token), *values)

        return stream

    def handle(request: gr.Request, token: str, *values: Any) -> Any:
        return work(session_of(request, token), *values)

    return handle


def html_part(value: Any = "", **settings: Any) -> gr.HTML:
    """Our own HTML, styled by our own style alone."""
    return gr.HTML(value, apply_default_css=False, padding=False, **settings)


TAB_FIRST = "(token, ...rest) => [window.pathasstToken(), ...rest]"
"""Every event begins with the tab's token, asked of the browser at that moment: an early press needs no finished page."""
EVENT: dict[str, Any] = {"api_visibility": "private", "concurrency_limit": None, "js": TAB_FIRST}
QUIET: dict[str, Any] = {**EVENT, "show_progress": "hidden"}
"""Settings of events whose first input is the token. None is offered as an API: that is the server's own business."""
