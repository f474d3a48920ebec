"""The pathologist's page: pictures, slides, questions, tools and literature in one Gradio application inside the server.

Knows the Service; no model and no route. Importing this module does not import Gradio.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import gradio as gr
    from fastapi import FastAPI

    from pathasst.assistant.service import Service


def build(service: Service) -> gr.Blocks:
    """The page for a Service. Raises MissingPackage without Gradio."""
    from pathasst.errors import MissingPackage

    try:
        import gradio  # noqa: F401
    except ImportError:
        raise MissingPackage("the page needs Gradio: pip install 'gradio~=6.31'") from None
    from pathasst.assistant.page.layout import blocks

    return blocks(service)


def mount(app: FastAPI, service: Service, path: str = "/") -> FastAPI:
    """Mount the page in a server, with its look; mount it last when `path` is "/". Returns the application.

    Gradio's own history of runs is off, since it would keep questions and pictures in the browser; so are its analytics, footer
    and stack traces. Raises MissingPackage.
    """
    page = build(service)
    import gradio as gr

    from pathasst.assistant.page.theme import FAVICON, head, theme

    return gr.mount_gradio_app(
        app,
        page,
        path=path,
        theme=theme(),
        head=head(),
        favicon_path=str(FAVICON),
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=service.settings.serve.slide_bytes,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
    )
