"""How a browser shows a key: a small form gives it a cookie for the page. The API itself takes keys alone, never the cookie."""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from pathasst.core.records import NOTICE
from pathasst.serve.keys import Key, KeyStore

LOGIN, COOKIE = "/login", "pathasst_session"
HOURS = 12
MOST = 1000
router = APIRouter(include_in_schema=False)
FORM = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>PathAsst</title><style>body{{font:1rem system-ui;max-width:28rem;margin:12vh auto;padding:0 1rem;color-scheme:light dark}}
input,button{{font:inherit;padding:.5rem;width:100%;box-sizing:border-box;margin:.4rem 0}}</style>
<h1>PathAsst</h1><p role="alert">{message}</p><form method="post" action="login"><label>Key
<input type="password" name="key" autocomplete="current-password" required autofocus></label><button>Open</button></form>
<p>{notice}</p></html>"""


@dataclass(slots=True)
class Logins:
    """Browsers that have shown a key: random tokens, in memory alone. A revoked key ends its logins."""

    keys: KeyStore
    _sessions: dict[str, tuple[str, float]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, key: str) -> str | None:
        """A new token for the browser that shows this key, or None when the key is wrong."""
        user_key = self.keys.check(key)
        if user_key is None:
            return None
        token, now = secrets.token_urlsafe(32), time.monotonic()
        with self._lock:
            self._sessions = {t: v for t, v in list(self._sessions.items())[-MOST:] if v[1] > now}
            self._sessions[token] = (user_key.id, now + HOURS * 3600)
        return token

    def who(self, token: str) -> Key | None:
        """The key behind a token, unless it was revoked."""
        id_, until = self._sessions.get(token, ("", 0.0))
        if until <= time.monotonic():
            return None
        return next((key for key in self.keys.list() if key.id == id_ and not key.revoked), None)

    def end(self, token: str) -> None:
        with self._lock:
            self._sessions.pop(token, None)


def _root(request: Request) -> str:
    return str(request.scope.get("root_path", ""))


@router.get(LOGIN)
def form() -> Response:
    """The form."""
    return HTMLResponse(FORM.format(message="This server asks for a key.", notice=NOTICE))


@router.post(LOGIN)
def login(request: Request, key: Annotated[str, Form(max_length=200)]) -> Response:
    """Check the key and give the cookie."""
    token = request.app.state.logins.start(key.strip())
    if token is None:
        return HTMLResponse(FORM.format(message="This key is not valid.", notice=NOTICE), 401)
    answer = RedirectResponse(f"{_root(request)}/", 303)
    secure = request.url.scheme == "https"
    answer.set_cookie(COOKIE, token, max_age=HOURS * 3600, httponly=True, samesite="strict", secure=secure)
    return answer


@router.post("/logout")
def logout(request: Request) -> Response:
    """Forget this browser."""
    request.app.state.logins.end(request.cookies.get(COOKIE, ""))
    answer = RedirectResponse(_root(request) + LOGIN, 303)
    answer.delete_cookie(COOKIE)
    return answer
