"""`pathasst mcp`: the tools and the literature for any MCP client."""

from __future__ import annotations

from pathlib import Path

import typer

EPILOG = """Examples:

for a client that starts it itself: {"command": "pathasst", "args": ["mcp", "--folder", "/data/pictures"]}

over HTTP, at http://127.0.0.1:8765/mcp — pathasst mcp --http
"""


def mcp(
    folder: list[Path] = typer.Option([], exists=True, file_okay=False, help="Folder whose pictures may be read by path."),
    http: bool = typer.Option(False, "--http", help="Serve streamable HTTP instead of standard input and output."),
    host: str = typer.Option("127.0.0.1", help="Address for --http. Beyond loopback, every request needs a key."),
    port: int = typer.Option(8765, help="Port for --http."),
    ask: bool = typer.Option(False, "--ask", help="Offer the tool `ask`, too: the embedded assistant, or the --brain, answers."),
    brain: str = typer.Option("", help="With --ask: who answers, as for `pathasst serve`."),
    name: list[str] = typer.Option([], help="Host name that the server answers to besides localhost; may be repeated."),
) -> None:
    """Offer the tools and the paper search over MCP; nothing else is read, nothing is sent anywhere."""
    import asyncio

    from pathasst.cli.serve import run_server, serve_settings
    from pathasst.serve.mcp import NoBrain, build, http_app, serve_stdio
    from pathasst.serve.service import Service

    settings = serve_settings(host, "embedded", brain, name, [], [], 0, False)
    service = Service(settings, brain=None if ask or brain else NoBrain())
    server = build(service, folder)
    if not http:
        asyncio.run(serve_stdio(server))
        service.close(1.0)
        return
    typer.secho(f"MCP at http://{host}:{port}/mcp", err=True)
    run_server(http_app(server, service), service.settings.serve, host, port, service.begin_closing).run()
