"""`pathasst serve`: page and API from one process; `pathasst serve keys`: who may use them."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from pathasst.core.errors import BadSettings

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

    from pathasst.assistant.settings import AssistantSettings, ServeSettings
    from pathasst.serve.service import Service
    from pathasst.serve.viewer import Shelf
    from pathasst.serve.workers import Workers

app = typer.Typer(help="Serve the assistant: a page and an OpenAI-compatible API.", invoke_without_command=True)
keys = typer.Typer(help="API keys: made at random, shown once, stored as hashes.", no_args_is_help=True)
app.add_typer(keys, name="keys")
STARTING = ("pathasst-start", "pathasst-warm")
"""Threads that import and load."""
LOOPBACK = ("127.0.0.1", "::1", "localhost")

EXAMPLES = """Examples:

page and API on this machine, at http://127.0.0.1:8000 — pathasst serve

a stronger text brain, after pathasst models pull qwen2.5-coder-1.5b — pathasst serve --recipe embedded-plus

another model decides, tools and papers stay here — pathasst serve --brain http://gpu:8000/v1#qwen2.5-vl-7b

for others, behind a TLS proxy — pathasst serve keys add "Ward 3", then pathasst serve --host 0.0.0.0 --name path.example.org

ask it: curl localhost:8000/v1/chat/completions -H "Content-Type: application/json"
-d '{"messages": [{"role": "user", "content": "What does NILM stand for?"}]}'
"""


@app.callback(epilog=EXAMPLES)
def serve(
    context: typer.Context,
    host: str = typer.Option("127.0.0.1", help="Address to listen on. Beyond loopback, every request needs a key."),
    port: int = typer.Option(8000, help="Port; 0: any free one."),
    recipe: str = typer.Option("", help="Recipe with the assistant's settings; default: embedded."),
    brain: str = typer.Option("", help="pathasst, llamacpp, or http://host:8000/v1#model (…#model,blind without vision)."),
    name: list[str] = typer.Option([], help="Host name that the server answers to besides localhost; may be repeated."),
    origin: list[str] = typer.Option([], help="Origin of other web pages that may use the API (CORS); may be repeated."),
    image_host: list[str] = typer.Option([], help="Host from which pictures may be fetched by address; may be repeated."),
    at_once: int = typer.Option(0, help="Questions worked on at once; 0: as the recipe says."),
    page: bool = typer.Option(True, help="Serve the page too."),
    slides: Path = typer.Option(None, help="Folder of slides and runs over them, shown at /slide/ to everybody with access."),
    require_keys: bool = typer.Option(False, help="Ask for keys on loopback as well."),
    trust_proxy: list[str] = typer.Option([], help="Address of a proxy whose X-Forwarded-… headers are believed; repeatable."),
    root_path: str = typer.Option("", help="Path under which a proxy shows the server, such as /pathasst."),
    user_header: str = typer.Option("", help="Header in which a trusted proxy gives the name of who is logged in."),
    admin: list[str] = typer.Option([], help="Name in --user-header that may see metrics and audit log; may be repeated."),
    workers: int = typer.Option(0, min=0, help="Processes that share the users, each with its models; 0: as the recipe says."),
    history_days: float = typer.Option(0.0, help="Days that the page's conversations are kept on disk; 0: as the recipe says."),
    check: bool = typer.Option(False, "--check", help="Check settings, keys, models and folders, print them, and stop."),
) -> None:
    """Serve the page and the API until Ctrl-C. Running questions are finished, new ones refused."""
    if context.invoked_subcommand:
        return
    from pathasst.core.malloc import keep_few_arenas

    keep_few_arenas()
    settings = serve_settings(host, recipe, brain, name, origin, image_host, at_once, require_keys, bool(user_header))
    own = settings.serve
    behind = own.replace(
        proxies=(*own.proxies, *trust_proxy),
        admins=(*own.admins, *admin),
        root_path=root_path or own.root_path,
        user_header=user_header or own.user_header,
        history_days=history_days or own.history_days,
        workers=workers or own.workers,
    )
    settings = settings.replace(serve=behind)
    if check:
        _check(settings, host, port)
        return
    _Start(settings, host, port, page, slides).run()


class _Start:
    """A server that listens at once, makes page and service behind that, then loads the models; or starts workers that do."""

    def __init__(self, settings: AssistantSettings, host: str, port: int, page: bool, slides: Path | None) -> None:
        from rich.console import Console

        from pathasst.serve.starting import Starting

        self.settings, self.host, self.page, self.slides = settings, host, page, slides
        self.shelf = _shelf(slides) if slides else None
        self.service: Service | None = None
        self.workers: Workers | None = None
        self.failure: Exception | None = None
        self.console = Console(highlight=False)
        self.server = run_server(Starting(self.build, self.fail, self.begin), settings.serve, host, port, self.stop)
        self.listening = listen(host, port)
        self.port = self.listening.getsockname()[1]

    def run(self) -> None:
        """Serve until told to stop. Raises what kept it from starting."""
        keys = "needed" if self.settings.serve.keys_required else "not needed on this machine"
        self.console.print(f"Listening at http://{self.host}:{self.port}/ while page and models load.", soft_wrap=True)
        self.console.print(f"Keys: {keys}. Kept in {self.settings.serve.home}")
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn has closed everything, and raises what stopped it once more
            self.server.run(sockets=[self.listening])
        if self.failure is not None:
            raise self.failure
        if any(thread.name in STARTING for thread in threading.enumerate()):
            if self.service is not None:
                self.service.close(0)
            if self.workers is not None:
                self.workers.close(0)
            sys.stdout.flush()
            os._exit(0)  # Python cannot end in order while a thread imports

    def build(self) -> FastAPI:
        """The application, models aside."""
        count = self.settings.serve.workers
        if count > 1:
            from functools import partial

            from pathasst.serve.front import create_front
            from pathasst.serve.workers import Workers, application, share

            make = partial(application, share(self.settings, count), self.page, self.slides)
            self.workers = Workers(count, make, self.fail)
            return create_front(self.settings.serve, self.workers)
        from pathasst.serve.api import create_app
        from pathasst.serve.service import Service

        self.service = Service(self.settings)
        self.service.loading = True
        return create_app(service=self.service, page=self.page, slides=self.shelf)

    def begin(self) -> None:
        """Say that questions are taken, and load the models."""
        if self.workers is not None:
            where = f"http://{self.host}:{self.port}/ready"
            self.console.print(f"{len(self.workers.all)} workers load their models; {where} says when.", soft_wrap=True)
        if self.service is not None:
            where = f"http://{self.host}:{self.port}/ (page), /v1 (API), /docs"
            self.console.print(f"[bold]{self.service.brain_name}[/] answers at {where}", soft_wrap=True)
            threading.Thread(target=self.warm, args=(self.service,), name="pathasst-warm", daemon=True).start()

    def warm(self, service: Service) -> None:
        try:
            service.warm()
        except Exception as error:  # noqa: BLE001 - told by the command
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """End with this error."""
        self.failure = error
        self.server.should_exit = True

    def stop(self) -> None:
        """Refuse new work at once."""
        if self.service is not None:
            self.service.begin_closing()
        if self.workers is not None:
            self.workers.begin_closing()


def listen(host: str, port: int) -> socket.socket:
    """The open port; 0: any free one. Raises BadSettings for one that is in use."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise BadSettings(f"{host}:{port} cannot be listened on: {error.strerror or error}; choose another --port.") from error


def _check(settings: AssistantSettings, host: str, port: int) -> None:
    """Print what the server would run with. Exits with 1 where it could not start."""
    from rich.console import Console

    from pathasst.core.errors import PathAsstError
    from pathasst.serve.keys import KEYS, KeyStore
    from pathasst.serve.service import Service

    console, faults = Console(highlight=False), []
    serve = settings.serve
    try:
        serve.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        (serve.home / ".check").write_bytes(b"")
        (serve.home / ".check").unlink()
    except OSError as error:
        faults.append(f"the folder {serve.home} cannot be written: {error}")
    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        faults.append(f"{host}:{port} cannot be listened on: {error}")
    try:
        service = Service(settings)
        service.warm()
        missing = [name for name, tool in service.registry.tools.items() if tool.missing()]
        console.print(f"Brain: {service.brain_name}", soft_wrap=True)
        console.print(f"Tools: {', '.join(n for n in service.registry.tools if n not in missing)}", soft_wrap=True)
        if missing:
            console.print(f"Not offered, their models are missing: {', '.join(missing)}", soft_wrap=True)
        service.close(0)
    except PathAsstError as error:
        faults.append(str(error))
    keys = sum(not key.revoked for key in KeyStore(serve.home / KEYS).list())
    console.print(
        f"Keys: {keys} active, {'needed' if serve.keys_required else 'not needed'}. State: {serve.home}", soft_wrap=True
    )
    for fault in faults:
        console.print(f"[red]Cannot start:[/] {fault}", soft_wrap=True)
    if faults:
        raise typer.Exit(1)
    console.print("The server can start.")


def serve_settings(
    host: str,
    recipe: str,
    brain: str,
    names: list[str],
    origins: list[str],
    image_hosts: list[str],
    at_once: int,
    require_keys: bool,
    proxy_logs_in: bool = False,
) -> AssistantSettings:
    """The recipe's settings with the command's. Raises BadSettings for a server beyond loopback without keys or a login."""
    from pathasst.assistant.settings import load_settings
    from pathasst.serve.keys import KEYS, KeyStore

    settings = load_settings(recipe or "embedded", brain)
    beyond, provider = host not in LOOPBACK, bool(settings.serve.openid.issuer)
    changes: dict[str, Any] = {"keys_required": beyond or require_keys or provider or settings.serve.keys_required}
    hosts = tuple(n.lower() for n in names)
    changes["hosts"] = hosts or ("*",) if beyond else (*settings.serve.hosts, *hosts)
    changes["origins"] = (*settings.serve.origins, *origins)
    changes["image_hosts"] = (*settings.serve.image_hosts, *(h.lower() for h in image_hosts))
    if at_once:
        changes["at_once"] = at_once
    serve = settings.serve.replace(**changes)
    others = provider or proxy_logs_in or bool(serve.user_header)
    if serve.keys_required and not others and not KeyStore(serve.home / KEYS).active():
        where = f"on {host}, beyond this machine," if beyond else "with keys"
        raise BadSettings(f'a server {where} needs at least one key: pathasst serve keys add "NAME"')
    return settings.replace(serve=serve)


def run_server(app: Any, serve: ServeSettings, host: str, port: int, on_stop: Callable[[], None]) -> uvicorn.Server:
    """The server. Told to stop, it calls `on_stop`, by which new work is refused at once, and lets what runs finish."""
    import logging

    import uvicorn
    from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

    from pathasst.serve.api.middleware import Peer
    from pathasst.serve.api.slow_clients import Patience

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: Any) -> None:
            on_stop()
            super().handle_exit(sig, frame)

    logging.getLogger("mcp").setLevel(logging.WARNING)
    if serve.proxies:  # who really connected is noted before their headers are believed
        forwarded: Any = ProxyHeadersMiddleware(app, trusted_hosts=list(serve.proxies))
        app = Peer(forwarded)
    config = uvicorn.Config(
        app,
        http=Patience,
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        root_path=serve.root_path,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=int(serve.drain_seconds) + 10,
        h11_max_incomplete_event_size=64 * 1024,
        limit_concurrency=1000,
    )
    return Server(config)


def _shelf(folder: Path) -> Shelf:
    """The slides of a folder. Raises BadSettings for one without any."""
    from pathasst.serve.viewer import Shelf

    shelf = Shelf()
    if not folder.is_dir() or not shelf.add_folder(folder):
        raise BadSettings(f"--slides {folder}: no slide was found there.")
    return shelf


@app.command("history")
def history(
    delete: str = typer.Option("", help="User whose conversations are deleted now, as the list names them."),
) -> None:
    """Whose conversations are kept on disk (--history-days), and deleting a user's. Example: pathasst serve history"""
    from pathasst.assistant.settings import state_dir
    from pathasst.serve.history import History
    from pathasst.serve.service import HISTORY

    file = state_dir() / HISTORY
    if not file.exists():
        typer.echo("No conversation was ever kept here.")
        return
    stored = History(file, keep_days=36_500)
    if delete:
        typer.echo(f"{stored.delete(delete)} conversations of {delete} are deleted.")
    for user, count in stored.users().items():
        typer.echo(f"{user}: {count} conversations")


@keys.command("add")
def add(
    name: str = typer.Argument(..., help="Whose it is, or what for."),
    role: str = typer.Option("user", help="user, or admin, who may see metrics and audit log too."),
    slides: list[str] = typer.Option([], help="Slides that it may open, such as 'study1/*'; may be repeated; default: all."),
) -> None:
    """Make a key and print it; it cannot be shown again. Example: pathasst serve keys add "Ward 3" """
    key, secret = _store().add(name, role, slides or ("*",))
    typer.echo(secret)
    typer.secho(f"Key {key.id} for {key.name}. It is stored as a hash alone: note it now.", err=True)


@keys.command("list")
def list_keys() -> None:
    """Every key, without its secret. Example: pathasst serve keys list"""
    from rich.console import Console
    from rich.table import Table

    table = Table("id", "name", "role", "slides", "made", "revoked", box=None)
    for key in _store().list():
        table.add_row(key.id, key.name, key.role, ", ".join(key.slides), key.created, key.revoked or "no")
    Console().print(table)


@keys.command("revoke")
def revoke(id: str = typer.Argument(..., help="The key's id, as `list` shows it.")) -> None:
    """Revoke a key; running servers refuse it from then on. Example: pathasst serve keys revoke 1a2b3c4d"""
    key = _store().revoke(id)
    typer.echo(f"Key {key.id} ({key.name}) is revoked.")


def _store() -> Any:
    from pathasst.assistant.settings import state_dir
    from pathasst.serve.keys import KEYS, KeyStore

    return KeyStore(state_dir() / KEYS)
