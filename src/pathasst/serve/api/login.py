"""How a browser shows who uses it: a key in a small form, or a login at an OpenID provider, gives it a cookie for the page.

The API itself takes keys alone, never the cookie.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from pathasst.serve.api.logins import COOKIE, LOGIN, OPENID, Logins, enter, page, root_of
from pathasst.serve.api.openid import login_app
from pathasst.serve.keys import KEYS, KeyStore

if TYPE_CHECKING:
    from fastapi import FastAPI

    from pathasst.assistant.settings import ServeSettings

router = APIRouter(include_in_schema=False)


def install(app: FastAPI, settings: ServeSettings) -> None:
    """Add the form, the login of the provider if the settings name one, and `app.state.logins`. Raises MissingPackage."""
    app.state.logins = Logins(KeyStore(settings.home / KEYS))
    app.state.provider = settings.openid.host
    app.include_router(router)
    if settings.openid.issuer:
        app.mount(OPENID, login_app(settings.openid, app.state.logins, settings.root_path))


@router.get(LOGIN)
def form(request: Request) -> Response:
    """The form."""
    return page(request, "This server asks who you are." if request.app.state.provider else "This server asks for a key.")


@router.post(LOGIN)
def login(request: Request, key: Annotated[str, Form(max_length=200)]) -> Response:
    """Check the key and give the cookie."""
    token = request.app.state.logins.start(key.strip())
    return page(request, "This key is not valid.", 401) if token is None else enter(request, token, "strict")


@router.post("/logout")
def logout(request: Request) -> Response:
    """Forget this browser."""
    request.app.state.logins.end(request.cookies.get(COOKIE, ""))
    response = RedirectResponse(root_of(request) + LOGIN, 303)
    response.delete_cookie(COOKIE)
    return response
