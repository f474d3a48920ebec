"""One port before several workers: the front lets requests in, and sends each user to one worker, as bytes come and go.

So a person's uploads, conversations, responses and jobs stay with one process. A user is a key, a name from a login or, without
those, a browser (by a cookie that says nothing else) or an address. A user whose worker has ended goes on with another one.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import threading
from collections import Counter as Tally
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import httpx
from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import cookie_parser

from pathasst.serve import starting
from pathasst.serve.api import errors, login
from pathasst.serve.api.app import guarded
from pathasst.serve.api.handover import HEADER, packed
from pathasst.serve.service import LOCAL
from pathasst.serve.workers import READY, WorkerProcess, Workers

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectSendStream
    from starlette.types import Receive, Scope, Send

    from pathasst.assistant.settings import ServeSettings

COOKIE = "pathasst_visitor"
MOST_USERS = 10_000
HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization te trailer transfer-encoding upgrade expect".split()
)
OURS = frozenset({HEADER.encode(), b"x-forwarded-for", b"x-forwarded-proto"})
"""Headers that the front writes; a client's are dropped."""
UNREACHED = (httpx.TransportError, OSError)
_TOKEN = re.compile(r"[0-9a-f]{32}")


def create_front(settings: ServeSettings, workers: Workers) -> FastAPI:
    """The application: keys, login, health and metrics here, everything else from the workers, which live as long as it does."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        workers.start()
        yield
        await run_in_threadpool(workers.close, settings.drain_seconds + 15)

    app = FastAPI(title="PathAsst", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    login.install(app, settings)
    errors.install(app)
    counts = FrontMetrics(workers)

    @app.get("/health")
    def health() -> dict[str, Any]:
        """Whether the front lives, and how each worker is."""
        return {"status": "ok", "workers": [worker.state for worker in workers]}

    @app.get("/ready")
    def ready() -> JSONResponse:
        """Whether a worker answers at once; 503 while all are loading."""
        states = [worker.state for worker in workers]
        ready = READY in states and not workers.closing.is_set()
        return JSONResponse({"status": "ready" if ready else "loading", "workers": states}, 200 if ready else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        """Counts and times of all workers for Prometheus, by worker, and the front's own."""
        texts = await asyncio.gather(*(_metrics_of(worker) for worker in workers if worker.up))
        return Response(counts.text(dict(texts)), media_type="text/plain; version=0.0.4; charset=utf-8")

    app.mount("/", Proxy(workers, settings.root_path))
    guarded(app, settings, lambda path, status, seconds: counts.requests.labels(str(status)).inc())
    return app


class Users:
    """Which worker each user has."""

    def __init__(self, workers: Iterable[WorkerProcess]) -> None:
        self.workers = list(workers)
        self._of: OrderedDict[str, WorkerProcess] = OrderedDict()
        self._lock = threading.Lock()

    def worker(self, name: str) -> WorkerProcess | None:
        """The user's; a new user, or one whose worker has ended, gets the least busy one. None: no worker is up."""
        with self._lock:
            worker = self._of.get(name)
            if worker is None or not worker.up:
                count = Tally(w.number for w in self._of.values())
                up = [w for w in self.workers if w.up]
                worker = min(up, key=lambda w: (w.requests, count[w.number]), default=None)
            if worker is not None:
                self._of[name] = worker
                self._of.move_to_end(name)
                if len(self._of) > MOST_USERS:
                    self._of.popitem(last=False)
            return worker


class Proxy:
    """ASGI: a request goes to the user's worker, its answer comes back, both while they are being sent."""

    def __init__(self, workers: Workers, root_path: str = "") -> None:
        self.users, self.root = Users(workers), root_path.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises HTTPException (503) where the worker ends before it answers, and what `receive` raises."""
        name, cookie = _visitor(scope)
        worker = self.users.worker(name)
        if worker is None:
            await starting.answer(scope, send)
            return
        worker.requests += 1
        exchange = ProxiedRequest(self._request(scope), receive, send, cookie)
        try:
            await exchange.run(worker.transport)
        except UNREACHED:
            if exchange.begun:
                raise  # the connection breaks: half an answer must not look whole
            words = "the process that worked on this request has ended; send it again."
            raise HTTPException(503, words, {"Retry-After": "1"}) from None
        finally:
            worker.requests -= 1

    def _request(self, scope: Scope) -> Callable[[AsyncIterator[bytes]], httpx.Request]:
        """The request for the worker, once there is a body."""
        headers = [(name, value) for name, value in scope["headers"] if name not in HOP_BY_HOP and name not in OURS]
        client = (scope.get("client") or ("",))[0]
        headers += [
            (HEADER.encode(), packed(scope["state"])),
            (b"x-forwarded-for", str(client).encode()),
            (b"x-forwarded-proto", str(scope.get("scheme", "http")).encode()),
        ]
        target = scope["raw_path"].removeprefix(self.root) or b"/"
        if scope["query_string"]:
            target += b"?" + scope["query_string"]
        names = {name for name, _ in scope["headers"]}
        has_body = bool(names & {b"content-length", b"transfer-encoding"})
        timeout = httpx.Timeout(None, connect=10).as_dict()  # answers take as long as the worker's own limits allow

        def with_body(content: AsyncIterator[bytes]) -> httpx.Request:
            return httpx.Request(
                scope["method"],
                "http://worker",
                headers=headers,
                content=content if has_body else None,
                extensions={"target": target, "timeout": timeout},
            )

        return with_body


class ProxiedRequest:
    """One request and its answer. A client that leaves ends it, so that the worker sees that, too."""

    def __init__(
        self, request: Callable[[AsyncIterator[bytes]], httpx.Request], receive: Receive, send: Send, cookie: bytes = b""
    ) -> None:
        self._request, self._receive, self._send, self._cookie = request, receive, send, cookie
        self.begun = False  # whether the answer's beginning was sent
        self._fault: Exception | None = None

    async def run(self, transport: httpx.AsyncHTTPTransport) -> None:
        """Raises what reading the body raises, such as HTTPException (413), and httpx's errors."""
        giving, taking = anyio.create_memory_object_stream[bytes](1)
        async with anyio.create_task_group() as group, giving, taking:
            group.start_soon(self._read, giving, group.cancel_scope)
            try:
                await self._answer(transport, taking)
            except UNREACHED as error:
                self._fault = error
            group.cancel_scope.cancel()
        if self._fault is not None:
            raise self._fault

    async def _read(self, giving: MemoryObjectSendStream[bytes], scope: anyio.CancelScope) -> None:
        """Pass the body on; then wait for the client to leave, which ends the exchange."""
        try:
            async with giving:
                while (message := await self._receive())["type"] == "http.request":
                    if message.get("body"):
                        await giving.send(message["body"])
                    if not message.get("more_body", False):
                        break
            while message["type"] != "http.disconnect":
                message = await self._receive()
        except anyio.BrokenResourceError:  # the worker has answered before the body was whole
            return
        except HTTPException as error:
            self._fault = error
        scope.cancel()

    async def _answer(self, transport: httpx.AsyncHTTPTransport, body: AsyncIterator[bytes]) -> None:
        response = await transport.handle_async_request(self._request(body))
        try:
            raw = [(name.lower(), value) for name, value in response.headers.raw if name.lower() not in HOP_BY_HOP]
            raw += [(b"set-cookie", self._cookie)] if self._cookie else []
            self.begun = True
            await self._send({"type": "http.response.start", "status": response.status_code, "headers": raw})
            async for chunk in response.aiter_raw():
                await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
            await self._send({"type": "http.response.body", "body": b""})
        finally:
            await response.aclose()


class FrontMetrics:
    """What the front counts, and the workers' metrics beside it."""

    def __init__(self, workers: Workers) -> None:
        own = self._registry = CollectorRegistry()
        self.requests = Counter("pathasst_front_requests", "HTTP requests, as clients saw them", ["status"], registry=own)
        up = Gauge("pathasst_worker_up", "Whether the worker takes requests", ["worker"], registry=own)
        starts = Gauge("pathasst_worker_starts", "How often the worker was started", ["worker"], registry=own)
        for worker in workers:
            up.labels(str(worker.number)).set_function(partial(getattr, worker, "up"))
            starts.labels(str(worker.number)).set_function(partial(getattr, worker, "starts"))

    def text(self, of_workers: Mapping[str, str]) -> bytes:
        """All metrics in Prometheus' text format; `of_workers`: each worker's own text, by its number."""
        families: dict[str, Metric] = {}
        for number, text in of_workers.items():
            for family in text_string_to_metric_families(text):
                merged = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in family.samples:
                    merged.add_sample(sample.name, {**sample.labels, "worker": number}, sample.value)

        class Merged(CollectorRegistry):
            def collect(self) -> Iterable[Metric]:
                return families.values()

        return generate_latest(self._registry) + generate_latest(Merged())


async def _metrics_of(worker: WorkerProcess) -> tuple[str, str]:
    """The worker's number and metrics; none from one that does not answer."""
    headers = {HEADER: packed({"user": LOCAL, "slides": ()}).decode()}
    request = httpx.Request("GET", "http://worker/metrics", headers=headers, extensions={"timeout": httpx.Timeout(5).as_dict()})
    try:
        response = await worker.transport.handle_async_request(request)
        return str(worker.number), (await response.aread()).decode()
    except UNREACHED:
        return str(worker.number), ""


def _visitor(scope: Scope) -> tuple[str, bytes]:
    """Whose request this is, as far as it can be told, and the cookie that tells it the next time, if one is to be set."""
    user = scope["state"]["user"]
    if user != LOCAL:
        return user, b""
    headers = Headers(scope=scope)
    token = cookie_parser(headers.get("cookie", "")).get(COOKIE, "")
    if _TOKEN.fullmatch(token):
        return f"visitor:{token}", b""
    if scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
        token = secrets.token_hex(16)
        secure = "; Secure" if scope.get("scheme") == "https" else ""
        # Lax: who comes by a link from elsewhere keeps the worker of their other tabs
        return f"visitor:{token}", f"{COOKIE}={token}; Path=/; HttpOnly; SameSite=Lax{secure}".encode()
    return f"address:{(scope.get('client') or ('',))[0]}", b""
