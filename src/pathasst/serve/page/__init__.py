"""The pathologist's page: pictures, slides, questions, tools and literature in one Gradio application inside the server.

Knows the Service; no model and no route. Importing this module does not import Gradio.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    folder = service.scratch.folder / "page"
    folder.mkdir(exist_ok=True)
    os.environ["GRADIO_TEMP_DIR"] = str(folder)  # where Gradio lays uploads; read when its parts are made
    page = build(service)
    _only_what_was_uploaded(page, folder)
    _aborted_uploads_go()
    import gradio as gr

    from pathasst.serve.page.theme import FAVICON, head, theme

    mounted = gr.mount_gradio_app(
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
        root_path=service.settings.serve.root_path or None,
    )
    _unknown_paths(mounted.router.routes[-1].app)  # type: ignore[attr-defined]
    return mounted


def _unknown_paths(inner: FastAPI) -> None:
    """Let what is not there be told in the API's shape, too: a page at `/` gets every path that nothing else takes."""
    from fastapi.responses import JSONResponse

    from pathasst.serve.api.errors import body

    async def not_found(request: Any, error: Any) -> JSONResponse:
        detail = str(getattr(error, "detail", "Not Found"))
        return JSONResponse({**body(f"{request.method} {request.url.path[:100]}: {detail}"), "detail": detail}, 404)

    inner.add_exception_handler(404, not_found)


def _aborted_uploads_go() -> None:
    """Let an upload that breaks off leave nothing: Gradio closes its file, and forgets it on the disk."""
    import gradio.route_utils as gradio_uploads
    from starlette.requests import ClientDisconnect

    plain = gradio_uploads.GradioMultiPartParser
    if plain.__name__ == "Tidy":
        return

    class Tidy(plain):  # type: ignore[misc, valid-type]
        async def parse(self) -> Any:
            try:
                return await super().parse()
            except BaseException as error:
                for file in self._files_to_close_on_error:
                    file.close()
                    Path(file.name).unlink(missing_ok=True)
                if isinstance(error, ClientDisconnect):  # no fault of the server's, and nothing for its log
                    raise gradio_uploads.MultiPartException("the upload broke off.") from None
                raise

    gradio_uploads.GradioMultiPartParser = Tidy  # type: ignore[misc]


def _only_what_was_uploaded(page: gr.Blocks, folder: Path) -> None:
    """Let no request name a file of the server, or an address, as one that its browser has uploaded.

    Gradio takes such a name in any input. It checks paths of pages that it has launched itself, not of those mounted in another
    server, and fetches addresses in both.
    """

    async def uploaded(path: str | Path | None) -> str | None:
        if path is not None and not Path(path).resolve().is_relative_to(folder.resolve()):
            raise BadInput("this file was not uploaded.")
        return None if path is None else str(path)

    page.has_launched = True
    for part in page.blocks.values():
        part.async_move_resource_to_block_cache = uploaded  # type: ignore[method-assign, assignment]
