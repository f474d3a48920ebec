"""Gradio's parts as this page uses them."""

from __future__ import annotations

from typing import Any

import gradio as gr


def html_part(value: Any = "", **settings: Any) -> gr.HTML:
    """Our own HTML, styled by our own style alone."""
    return gr.HTML(value, apply_default_css=False, padding=False, **settings)


TAB_FIRST = "(token, ...rest) => [window.pathasstToken(), ...rest]"
"""Every event begins with the tab's token, asked of the browser at that moment: an early press needs no finished page."""
EVENT: dict[str, Any] = {"api_visibility": "private", "concurrency_limit": None, "js": TAB_FIRST}
QUIET: dict[str, Any] = {**EVENT, "show_progress": "hidden"}
"""Settings of events whose first input is the token. None is offered as an API: that is the server's own business."""
