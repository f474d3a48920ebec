"""The web application. Skeleton: routes follow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pathasst.assistant.service import Service
from pathasst.assistant.settings import AssistantSettings

if TYPE_CHECKING:
    from fastapi import FastAPI


def create_app(settings: AssistantSettings | None = None, *, service: Service | None = None, page: bool = True) -> FastAPI:
    """The application: API, and the page at `/` where Gradio is installed."""
    from fastapi import FastAPI

    service = service or Service(settings)
    app = FastAPI(title="PathAsst")
    app.state.service = service
    if page:
        import gradio

        from pathasst.assistant import page as pages

        app = gradio.mount_gradio_app(app, pages.build(service), path="/")
    return app
