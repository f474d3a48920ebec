"""Browsers that have logged in, the form that asks for it, and the cookie that remembers it. Knows keys, no way of logging in."""

from __future__ import annotations

import html
import secrets
import threading
import time
from dataclasses import dataclass, field
from typing import Literal

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from pathasst.core.records import NOTICE
from pathasst.serve.keys import EVERY, USER, KeyStore

LOGIN, COOKIE = "/login", "pathasst_session"
OPENID = "/login/openid"
HOURS = 12
MOST = 1000
FORM = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>PathAsst</title><style>body{{font:1rem system-ui;max-width:28rem;margin:12vh auto;padding:0 1rem;color-scheme:light dark}}
input,button,.provider{{font:inherit;padding:.5rem;width:100%;box-sizing:border-box;margin:.4rem 0;display:block}}
.provider{{text-align:center;border:1px solid;border-radius:.3rem;margin-bottom:1.5rem}}</style>
<h1>PathAsst</h1><p role="alert">{message}</p>{provider}<form method="post" action="{action}"><label>Key
<input type="password" name="key" autocomplete="current-password" required autofocus></label><button>Open</button></form>
<p>{notice}</p></html>"""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request, and what they may do."""

    user: str
    role: str = USER
    slides: tuple[str, ...] = EVERY


@dataclass(slots=True)
class Logins:
    """Browsers that have logged in: random tokens, in memory alone. A revoked key ends its logins."""

    keys: KeyStore
    _sessions: dict[str, tuple[str | Caller, float]] = field(default_factory=dict)  # a key's id, or whom a provider vouched for
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, key: str) -> str | None:
        """A new token for the browser that shows this key, or None when the key is wrong."""
        user_key = self.keys.check(key)
        return self.start_for(user_key.id) if user_key else None

    def start_for(self, who: str | Caller) -> str:
        """A new token for the holder of the key with this id, or for somebody whom a provider vouches for."""
        token, now = secrets.token_urlsafe(32), time.monotonic()
        with self._lock:
            self._sessions = {t: v for t, v in list(self._sessions.items())[-MOST:] if v[1] > now}
            self._sessions[token] = (who, now + HOURS * 3600)
        return token

    def caller(self, token: str) -> Caller | None:
        """Who is behind a token, unless it has expired or the key was revoked."""
        who, until = self._sessions.get(token, ("", 0.0))
        if until <= time.monotonic():
            return None
        if isinstance(who, Caller):
            return who
        key = next((key for key in self.keys.list() if key.id == who and not key.revoked), None)
        return Caller(f"key:{key.id}", key.role, key.slides) if key else None

    def end(self, token: str) -> None:
        with self._lock:
            self._sessions.pop(token, None)


def enter(request: Request, token: str, same_site: Literal["lax", "strict"]) -> Response:
    """Lead to the page, with the cookie."""
    response = RedirectResponse(f"{root_of(request)}/", 303)
    secure = request.url.scheme == "https"
    response.set_cookie(COOKIE, token, max_age=HOURS * 3600, httponly=True, samesite=same_site, secure=secure)
    return response


def page(request: Request, message: str, status: int = 200) -> Response:
    """The form, with what to tell."""
    root, host = root_of(request), getattr(request.app.state, "provider", "")
    link = f'<a class="provider" href="{root}{OPENID}/start">Log in at {html.escape(host)}</a>' if host else ""
    words = FORM.format(message=html.escape(message), provider=link, action=f"{root}{LOGIN}", notice=NOTICE)
    return HTMLResponse(words, status)


def root_of(request: Request) -> str:
    """The path under which a proxy shows the server."""
    return str(request.scope.get("app_root_path", request.scope.get("root_path", "")))
