"""The web application: routes, guard, docs, and the page at `/` where Gradio is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool

import pathasst
from pathasst.assistant.settings import AssistantSettings, ServeSettings
from pathasst.serve.api import chat, errors, login, messages, responses, routes
from pathasst.serve.api.handover import Handover
from pathasst.serve.api.middleware import Guard
from pathasst.serve.service import Service

if TYPE_CHECKING:
    from fastapi import FastAPI

    from pathasst.assistant.images import PictureInput
    from pathasst.serve.viewer import Shelf

ABOUT = "PathAsst over HTTP: OpenAI-compatible chat with pathology tools and literature. Research use only, not for diagnosis."
DOCS = "/docs-files"


def create_app(
    settings: AssistantSettings | None = None,
    *,
    service: Service | None = None,
    page: bool = True,
    slides: Shelf | None = None,
    behind_front: bool = False,
) -> FastAPI:
    """The application around one Service, made from the settings if none is given, and closed when the application ends.

    `page`: mount the page at `/` where Gradio is installed. `slides`: those shown at /slide/. `behind_front`: one of several
    workers, whose requests a front has admitted. Raises what `Service` raises, and MissingPackage for slides and a
    login whose packages are not there.
    """
    from fastapi import Depends, FastAPI
    from fastapi.security import HTTPBearer

    service = service or Service(settings)
    serve = service.settings.serve

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(service.close)

    bearer = HTTPBearer(auto_error=False, description="A key of `pathasst serve keys add`; the guard checks it on every path.")
    app = FastAPI(
        title="PathAsst",
        version=pathasst.__version__,
        description=ABOUT,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        responses=errors.RESPONSES,
        dependencies=[Depends(bearer)] if serve.keys_required else [],
    )
    app.state.service = service
    if not behind_front:
        login.install(app, serve)
    errors.install(app)
    for router in (chat.router, responses.router, routes.router):
        app.include_router(router)
    _docs(app)
    if slides is not None:
        from pathasst.serve.viewer import add_viewer

        service.shelf = slides

        def ask(question: str, picture: PictureInput, user: str) -> str:
            answer = service.submit(question, [picture], user=user).result()
            return answer.text + messages.footer(answer)

        add_viewer(app, slides, ask=ask)
    if page and importlib.util.find_spec("gradio") and importlib.util.find_spec("pathasst.serve.page"):
        app = _with_page(app, service)

    def count(path: str, status: int, seconds: float) -> None:
        service.metrics.requests.labels(path, str(status)).inc()
        service.metrics.request_seconds.labels(path).observe(seconds)

    if behind_front:
        app.add_middleware(Handover, on_response=count)
    else:
        guarded(app, serve, count)
    if serve.otlp:
        from pathasst.serve import telemetry

        telemetry.export(app, service, serve.otlp)
    return app


def guarded(app: FastAPI, settings: ServeSettings, on_response: Callable[[str, int, float], None]) -> None:
    """Let every request pass the guard, and pages of `settings.origins` use the API. `login.install` comes first."""
    from starlette.middleware.cors import CORSMiddleware

    if settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type"],
        )
    logins = app.state.logins
    app.add_middleware(Guard, settings=settings, keys=logins.keys, logins=logins, on_response=on_response)


def _docs(app: FastAPI) -> None:
    """The OpenAPI page, with its script from the package `fastapi-offline`: nothing is loaded from elsewhere."""
    import fastapi_offline
    from fastapi.openapi.docs import get_swagger_ui_html
    from fastapi.responses import HTMLResponse
    from fastapi.staticfiles import StaticFiles

    app.mount(DOCS, StaticFiles(directory=Path(fastapi_offline.__file__).with_name("static")), name="docs")

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="openapi.json",
            title="PathAsst API",
            swagger_js_url=f"{DOCS[1:]}/swagger-ui-bundle.js",
            swagger_css_url=f"{DOCS[1:]}/swagger-ui.css",
            swagger_favicon_url=f"{DOCS[1:]}/favicon.png",
        )


def _with_page(app: FastAPI, service: Service) -> FastAPI:
    from pathasst.serve import page

    return page.mount(app, service)
