"""What a request passes before a route sees it: host, origin, key, rate, size, speed. And the headers that every answer carries.

Plain ASGI, so that streams stream and a client that leaves is seen. Knows keys and limits; no route, no model.
"""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pathasst.assistant.settings import ServeSettings
from pathasst.serve.api.errors import body
from pathasst.serve.api.logins import COOKIE, LOGIN, OPENID, Caller, Logins
from pathasst.serve.api.slow_clients import in_time
from pathasst.serve.keys import ADMIN, USER, KeyStore
from pathasst.serve.service import LOCAL

CHECKS = frozenset({"/health", "/ready"})
"""Paths that say only whether the server lives; a container's check asks for them by the machine's own name."""
LOGINS = frozenset({LOGIN, f"{OPENID}/start", f"{OPENID}/callback"})
OPEN = CHECKS | LOGINS
"""Paths that need no key."""
OF_ADMINS = frozenset({"/metrics", "/v1/audit"})
"""Paths for admins alone, where keys are needed."""
API = ("/v1/", "/health", "/ready", "/metrics")
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}
CSP_API = "default-src 'none'; frame-ancestors 'none'"
# Gradio compiles its templates and small scripts in the browser, hence 'unsafe-eval'; nothing may come from elsewhere.
CSP_PAGE = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self' blob: data:; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'none'"
)


FILES = ("/assets/", "/static/", "/svelte/")
SLIDES = "/gradio_api/upload"
UNCOUNTED = ("/health", "/ready", "/theme.css", "/favicon.ico", "/manifest.json", "/slide-tiles/", *FILES)
"""Not counted as requests a minute: opening the page once fetches some hundred files, and a slide is hundreds of tiles."""


class Refusal(Exception):
    """A request that goes no further."""

    def __init__(self, status: int, message: str, kind: str = "invalid_request_error", headers: dict[str, str] | None = None):
        super().__init__(message)
        self.status, self.kind, self.headers = status, kind, headers or {}


class Peer:
    """ASGI: notes who really connected before a proxy's headers are believed, as `state["peer"]`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope.setdefault("state", {})["peer"] = (scope.get("client") or ("",))[0]
        await self.app(scope, receive, send)


def route_path(scope: Scope) -> str:
    """The path without what a proxy shows the server under."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path.removeprefix(root) or "/" if root and path.startswith(f"{root}/") else path


@dataclass(slots=True)
class Rate:
    """Requests a minute by name, as a bucket that fills by the second. Forgets who has not been heard of longest."""

    per_minute: int
    most_names: int = 10_000
    _left: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, name: str) -> float:
        """0 when the request may pass, else the seconds until one may."""
        if not self.per_minute:
            return 0.0
        now = time.monotonic()
        with self._lock:
            left, since = self._left.pop(name, (float(self.per_minute), now))
            left = min(self.per_minute, left + (now - since) * self.per_minute / 60)
            wait = 0.0 if left >= 1 else (1 - left) * 60 / self.per_minute
            self._left[name] = (left - 1 if not wait else left, now)
            while len(self._left) > self.most_names:
                self._left.popitem(last=False)
        return wait


@dataclass(slots=True)
class Guard:
    """The middleware. `on_response` is called for every answer: path template, status, seconds."""

    app: ASGIApp
    settings: ServeSettings
    keys: KeyStore
    logins: Logins
    on_response: Callable[[str, int, float], None] = lambda path, status, seconds: None
    rate: Rate = field(init=False)

    def __post_init__(self) -> None:
        self.rate = Rate(self.settings.per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # nothing here speaks it
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.monotonic(), 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _add_headers(MutableHeaders(scope=message), route_path(scope))
            await send(message)

        try:
            self._admit(scope)
            await self.app(scope, self._limited(in_time(receive), route_path(scope)), sending)
        except Refusal as refusal:
            await _refuse(sending, scope, refusal)
        finally:
            route = scope.get("route")
            self.on_response(getattr(route, "path", "other"), status, time.monotonic() - started)

    def _admit(self, scope: Scope) -> None:
        """Raises Refusal; else notes the user in the request's state."""
        headers, path = Headers(scope=scope), route_path(scope)
        if path not in CHECKS and not self._host(headers.get("host", "")):
            raise Refusal(421, "this server does not answer to that name.")
        if path not in OPEN or scope["method"] not in SAFE:
            self._same_origin(scope["method"], headers)
        caller = Caller(LOCAL, ADMIN) if not self.settings.keys_required or path in OPEN else self._caller(scope, headers, path)
        user = caller.user
        if path in OF_ADMINS and caller.role != ADMIN:
            raise Refusal(403, "this needs a key of the role admin: pathasst serve keys add NAME --role admin.")
        counted = path in LOGINS or (self.settings.keys_required and not path.startswith(UNCOUNTED))
        if counted and (wait := self.rate.take(f"login {(scope.get('client') or ('',))[0]}" if path in LOGINS else user)):
            after = {"Retry-After": str(int(wait) + 1)}
            raise Refusal(429, f"more than {self.settings.per_minute} requests a minute.", "rate_limit_error", after)
        declared = headers.get("content-length", "0")
        if not declared.isdecimal() or int(declared) > self._most(path):
            raise self._too_large(path)
        scope.setdefault("state", {}).update(user=user, slides=caller.slides)

    def _host(self, host: str) -> bool:
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        return "*" in self.settings.hosts or name.lower() in self.settings.hosts

    def _same_origin(self, method: str, headers: Headers) -> None:
        """A page of another origin may use the server only when it is on the list."""
        origin = headers.get("origin", "")
        if origin in self.settings.origins:
            return
        if origin and urlsplit(origin).netloc.lower() != headers.get("host", "").lower():
            raise Refusal(403, "pages of other origins may not use this server.")
        if method not in SAFE and headers.get("sec-fetch-site", "") in ("cross-site", "same-site"):
            raise Refusal(403, "pages of other origins may not use this server.")

    def _caller(self, scope: Scope, headers: Headers, path: str) -> Caller:
        """Who is behind a key, a proxy's header or, on the page, the cookie that `login` gave. Raises Refusal."""
        kind, _, credentials = headers.get("authorization", "").partition(" ")
        key = self.keys.check(credentials.strip()) if kind.lower() == "bearer" else None
        if key is not None:
            return Caller(f"key:{key.id}", key.role, key.slides)
        if not path.startswith(API) and (caller := self.logins.caller(_cookie(headers))):
            return caller
        name = headers.get(self.settings.user_header, "").strip() if self.settings.user_header else ""
        if name and scope.get("state", {}).get("peer") in self.settings.proxies:
            return Caller(f"user:{name[:100]}", ADMIN if name in self.settings.admins else USER)
        raise Refusal(
            401, "an API key is needed: Authorization: Bearer pa-…", "authentication_error", {"WWW-Authenticate": "Bearer"}
        )

    def _limited(self, receive: Receive, path: str) -> Receive:
        """`receive`, counting: a body may be longer than it said."""
        received = 0

        async def counting() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._most(path):
                raise HTTPException(413, str(self._too_large(path)))  # the route is reading already, and answers
            return message

        return counting

    def _most(self, path: str) -> int:
        """Bytes a request may have; a slide that the page uploads is written to disk while it comes."""
        return self.settings.slide_bytes if path == SLIDES else self.settings.body_bytes

    def _too_large(self, path: str) -> Refusal:
        return Refusal(413, f"a request may have {self._most(path) >> 20} MB.")


def _add_headers(headers: MutableHeaders, path: str) -> None:
    if path.startswith(FILES):  # Gradio's own files, the same for everybody; what people gave and got is never kept
        headers["Cache-Control"] = "public, max-age=86400"
    for name, value in HEADERS.items():
        headers.setdefault(name, value)
    headers["Content-Security-Policy"] = CSP_API if path.startswith(API) else CSP_PAGE
    if "server" in headers:
        del headers["server"]


async def _refuse(send: Send, scope: Scope, refusal: Refusal) -> None:
    """The refusal as JSON; somebody who opens the page without a key is led to the login."""
    headers = {"content-type": "application/json", **refusal.headers}
    content = json.dumps(body(str(refusal), refusal.kind)).encode()
    status = refusal.status
    if (
        status == 401
        and scope["method"] == "GET"
        and not route_path(scope).startswith(API)
        and "html" in Headers(scope=scope).get("accept", "")
    ):
        status, content, headers = 303, b"", {"location": scope.get("root_path", "") + LOGIN}
    raw = [(k.lower().encode(), v.encode()) for k, v in {**headers, "content-length": str(len(content))}.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": content})


def _cookie(headers: Headers) -> str:
    from starlette.requests import cookie_parser

    return cookie_parser(headers.get("cookie", "")).get(COOKIE, "")
