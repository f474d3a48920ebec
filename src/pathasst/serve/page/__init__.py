"""The pathologist's page: pictures, slides, questions, tools and literature in one Gradio application inside the server.

Knows the Service; no model and no route. Importing this module does not import Gradio.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pathasst.core.errors import BadInput

if TYPE_CHECKING:
    import gradio as gr
    from fastapi import FastAPI

    from pathasst.serve.service import Service


def build(service: Service) -> gr.Blocks:
    """The page for a Service. Raises MissingPackage without Gradio."""
    from pathasst.core.errors import MissingPackage

    try:
        import gradio  # noqa: F401
    except ImportError:
        raise MissingPackage("the page needs Gradio: pip install 'gradio~=6.31'") from None
    from pathasst.serve.page.layout import blocks

    return blocks(service)


def mount(app: FastAPI, service: Service, path: str = "/") -> FastAPI:
    """Mount the page in a server, with its look; mount it last when `path` is "/". Returns the application.

    Gradio's own history of runs is off, since it would keep questions and pictures in the browser; so are its analytics, footer
    and stack traces. Raises MissingPackage.
    """
    page = build(service)
    _only_what_was_uploaded(page)
    import gradio as gr

    from pathasst.serve.page.theme import FAVICON, head, theme

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


def _only_what_was_uploaded(page: gr.Blocks) -> None:
    """Let no request name a file of the server, or an address, as one that its browser has uploaded.

    Gradio takes such a name in any input. It checks paths of pages that it has launched itself, not of those mounted in another
    server, and fetches addresses in both.
    """
    from gradio.utils import get_upload_folder

    async def uploaded(path: str | Path | None) -> str | None:
        if path is not None and not Path(path).resolve().is_relative_to(Path(get_upload_folder()).resolve()):
            raise BadInput("this file was not uploaded.")
        return None if path is None else str(path)

    page.has_launched = True
    for part in page.blocks.values():
        part.async_move_resource_to_block_cache = uploaded  # type: ignore[method-assign, assignment]
