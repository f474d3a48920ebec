"""Worker processes: each runs the whole server behind a Unix socket, for some of the users. Started, watched, started again.

Knows processes and sockets; which user goes to which worker is the front's business.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pathasst.core.errors import BadSettings, PathAsstError

if TYPE_CHECKING:
    import httpx
    from fastapi import FastAPI

    from pathasst.assistant.settings import AssistantSettings

STARTING, LOADING, READY, DOWN = "starting", "loading", "ready", "down"
"""A worker is importing; takes requests while its models load; has loaded them; has ended and will be started again."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds before a worker that ended is started again; doubled each time
STEADY_SECONDS = 60.0
"""A worker that lived so long is started again without a longer pause."""
MOST_FAILED_STARTS = 3
"""In a row, without ever having listened: then the server ends, unless another worker has listened."""
KEEP_ALIVE = 75
_log = logging.getLogger(__name__)
_spawn = multiprocessing.get_context("spawn")  # a fork would copy locks of threads


def share(settings: AssistantSettings, count: int) -> AssistantSettings:
    """One worker's settings: its part of the memory that all pictures may take, but enough for one."""
    serve = settings.serve
    pixels = max(serve.picture_pixels, serve.decoding_pixels // count)
    return settings.replace(serve=serve.replace(decoding_pixels=pixels))


def application(settings: AssistantSettings, page: bool, slides: Path | None) -> FastAPI:
    """What a worker runs. Raises what `Service` raises."""
    from pathasst.serve.api import create_app
    from pathasst.serve.service import Service

    shelf = None
    if slides is not None:
        from pathasst.serve.viewer import Shelf

        shelf = Shelf()
        shelf.add_folder(slides)
    service = Service(settings)
    service.loading = True
    return create_app(service=service, page=page, slides=shelf, behind_front=True)


class WorkerProcess:
    """One of them. `build` makes the application; it is pickled and called in the process."""

    def __init__(self, number: int, socket: Path, build: Callable[[], FastAPI], group: Workers) -> None:
        import httpx

        self.number, self.socket, self.build, self.group = number, socket, build, group
        self.state, self.starts, self.failed_starts = STARTING, 0, 0
        self.requests = 0  # being answered now
        self.process: Any = None
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=KEEP_ALIVE / 2)
        self.transport: httpx.AsyncHTTPTransport = httpx.AsyncHTTPTransport(uds=str(socket), limits=limits)
        self._thread = threading.Thread(target=self._keep_up, name=f"pathasst-worker-{number}", daemon=True)

    @property
    def up(self) -> bool:
        """Whether it takes requests."""
        return self.state in (LOADING, READY)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Ask the process to finish what runs and stop."""
        if self.process is not None and self.process.is_alive():
            self.process.terminate()

    def join(self, seconds: float) -> None:
        """Wait for the process to end; after `seconds` it is killed."""
        if self._thread.ident is None:
            return
        self._thread.join(max(0.0, seconds))
        if self._thread.is_alive() and self.process is not None:
            self.process.kill()
            self._thread.join(5)

    def _keep_up(self) -> None:
        pause, closing = FIRST_PAUSE, self.group.closing
        while not closing.is_set():
            began = time.monotonic()
            self._live()
            self.state = DOWN
            if closing.is_set():
                return
            steady = time.monotonic() - began > STEADY_SECONDS
            pause = FIRST_PAUSE if steady else min(2 * pause, LONGEST_PAUSE)
            _log.error("worker %d ended (code %s); it is started again in %g s", self.number, self.process.exitcode, pause)
            closing.wait(pause)

    def _live(self) -> None:
        """One life of the process, from its start to its end."""
        news, writing = _spawn.Pipe(duplex=False)
        self.state = STARTING
        arguments = (self.build, str(self.socket), writing, self.group.threads)
        self.process = _spawn.Process(target=_run, args=arguments, name=f"worker {self.number}")
        with self.group.starting:  # not beside the end: a process that starts then would be left over
            if self.group.closing.is_set():
                return
            self.process.start()
        writing.close()
        self.starts += 1
        message, listened = "", False
        while True:
            try:
                state, message = news.recv()
            except (EOFError, OSError):
                break
            self.state = state
            listened = listened or self.up
        self.process.join()
        news.close()
        self.failed_starts = 0 if listened else self.failed_starts + 1
        self.group.ended(self, message if self.state == DOWN else "")


class Workers:
    """All of them, and the folder of their sockets. `on_failure` is called with what keeps the first of them from starting."""

    def __init__(
        self, count: int, build: Callable[[], FastAPI], on_failure: Callable[[Exception], None] = lambda error: None
    ) -> None:
        if sys.platform == "win32":
            raise BadSettings("several workers need Unix sockets, which this system does not have; leave out --workers.")
        self.closing, self.starting = threading.Event(), threading.Lock()
        self._on_failure = on_failure
        self._folder = Path(tempfile.mkdtemp(prefix="pathasst-workers-"))  # open to its owner alone; a socket's path is short
        self.all = [WorkerProcess(n, self._folder / f"{n}.sock", build, self) for n in range(count)]
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.threads = max(1, cores // count)  # of Torch, in each

    def __iter__(self) -> Any:
        return iter(self.all)

    def start(self) -> None:
        for worker in self.all:
            worker.start()

    def begin_closing(self) -> None:
        """Let every worker refuse new work and finish what runs."""
        with self.starting:
            self.closing.set()
        for worker in self.all:
            worker.end()

    def close(self, seconds: float) -> None:
        """End all processes, those that do not end within `seconds` by force, and delete their sockets."""
        self.begin_closing()
        until = time.monotonic() + seconds
        for worker in self.all:
            worker.join(until - time.monotonic())
        shutil.rmtree(self._folder, ignore_errors=True)

    def ended(self, worker: WorkerProcess, reason: str) -> None:
        """A process has ended. Where none has ever listened, what keeps it from that ends the server."""
        if self.closing.is_set() or any(other.up for other in self.all):
            return
        if reason:
            self._on_failure(BadSettings(reason))
        elif worker.failed_starts >= MOST_FAILED_STARTS:
            code = worker.process.exitcode
            self._on_failure(BadSettings(f"a worker ended {MOST_FAILED_STARTS} times (code {code}) before it took a request."))


def _run(build: Callable[[], FastAPI], socket: str, news: Connection, threads: int) -> None:
    """The process: it builds its application, listens, loads the models, and ends when the front asks or dies."""
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # before Torch is imported
    import uvicorn

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the front says when to end
    try:
        app = build()
    except PathAsstError as error:
        news.send((DOWN, str(error)))
        return
    service = app.state.service

    def warm() -> None:
        try:
            service.warm()
        except PathAsstError as error:
            news.send((DOWN, str(error)))
            server.should_exit = True
        else:
            news.send((READY, ""))

    def follow() -> None:
        """End with the front, also when that was killed: nothing stays."""
        front = multiprocessing.parent_process()
        if front is not None:
            front.join()
        service.close(0)
        os._exit(1)

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            news.send((LOADING, ""))
            threading.Thread(target=warm, name="pathasst-warm", daemon=True).start()

        def handle_exit(self, sig: int, frame: Any) -> None:
            if sig != signal.SIGINT:
                service.begin_closing()
                super().handle_exit(sig, frame)

    threading.Thread(target=follow, name="pathasst-follow", daemon=True).start()
    serve = service.settings.serve
    config = uvicorn.Config(
        app,
        uds=socket,
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        forwarded_allow_ips="*",  # the front alone connects, and says how it was reached
        root_path=serve.root_path,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=int(serve.drain_seconds) + 10,
        h11_max_incomplete_event_size=128 * 1024,
    )
    server = Server(config)
    server.run()
