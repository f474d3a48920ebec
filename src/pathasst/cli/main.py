"""The `pathasst` command: parses, calls a room, prints. Sub-commands live one file a room and import lazily."""

from __future__ import annotations

import atexit
import errno
import gc
import sys
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from pathasst import __version__
from pathasst.cli import (
    answer,
    ask,
    atlas,
    clip,
    collect,
    curate,
    dataset,
    demo,
    doctor,
    evaluate,
    evaluate_public,
    instruct,
    interrupt,
    mcp,
    mllm,
    models,
    pacs,
    papers,
    serve,
    slide,
    tools,
    train,
)
from pathasst.core.errors import PathAsstError

FIRST, LINE, USE, LOOK = "First", "The line: from articles to an assistant", "Use it", "Look and measure"
PANELS = {
    FIRST: ("demo", "doctor", "models"),
    LINE: ("collect", "curate", "instruct", "train"),
    USE: ("ask", "answer", "serve", "papers", "tools", "slide", "pacs", "atlas", "mcp", "export"),
    LOOK: ("dataset", "show-mask", "clip", "eval"),
}
"""How `pathasst --help` shows the commands: as a newcomer meets them."""


class InOrder(TyperGroup):
    """Lists the commands in the order of the panels; typer would put groups last."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [name for panel in PANELS.values() for name in panel]


app = typer.Typer(
    name="pathasst",
    cls=InOrder,
    help="From open literature to a pathology assistant of your own. Start with `pathasst doctor`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo", rich_help_panel=FIRST)(demo.demo)
app.command("doctor", rich_help_panel=FIRST)(doctor.doctor)
app.add_typer(models.app, name="models", rich_help_panel=FIRST)
app.add_typer(collect.app, name="collect", rich_help_panel=LINE)
app.command("curate", rich_help_panel=LINE)(curate.curate)
app.command("instruct", rich_help_panel=LINE)(instruct.instruct)
app.add_typer(train.app, name="train", rich_help_panel=LINE)
train.app.command("select")(curate.train_select)
train.app.command("panels")(curate.train_panels)
app.command("ask", rich_help_panel=USE)(ask.ask)
app.command("answer", rich_help_panel=USE)(answer.answer)
app.add_typer(serve.app, name="serve", rich_help_panel=USE)
app.add_typer(papers.app, name="papers", rich_help_panel=USE)
app.add_typer(tools.app, name="tools", rich_help_panel=USE)
app.add_typer(slide.app, name="slide", rich_help_panel=USE)
app.add_typer(pacs.app, name="pacs", rich_help_panel=USE)
app.add_typer(atlas.app, name="atlas", rich_help_panel=USE)
app.command("mcp", epilog=mcp.EPILOG, rich_help_panel=USE)(mcp.mcp)
app.command("export", rich_help_panel=USE)(mllm.export)
app.add_typer(dataset.app, name="dataset", rich_help_panel=LOOK)
app.command("show-mask", rich_help_panel=LOOK)(mllm.show_mask)
app.add_typer(clip.app, name="clip", rich_help_panel=LOOK)
evaluate.app.add_typer(evaluate_public.app)
app.add_typer(evaluate.app, name="eval", rich_help_panel=LOOK)

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FULL_WORDS = ("No space left on device", "File too large", "inline_container.cc")  # the last is torch.save's way to say it
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
IN_THE_WAY = (errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG)  # a file where a folder should be, or the reverse
ELSEWHERE = (
    "Choose another place (--out; PATHASST_CACHE for weights, PATHASST_HOME for keys), then run the same command again: "
    "finished parts are kept."
)


def _version(show: bool) -> None:
    if show:
        typer.echo(f"pathasst {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version and exit."),
) -> None:
    """Options of the command itself; typer wants a function for them."""


def main() -> None:
    """Entry point: errors made on purpose, and a disk's refusals, are one message without a traceback; Ctrl-C exits with 130."""
    interrupt.listen()
    atexit.register(gc.freeze)  # or Python looks through all that torch and others made, for seconds, before it ends
    try:
        app()
    except PathAsstError as error:
        _fail(str(error))
    except Exception as error:
        if refusal := _refusal(error):
            _fail(f"{refusal} {ELSEWHERE}")
        raise
    except KeyboardInterrupt:  # raised where typer does not look
        interrupt.stop()
    except SystemExit as stop:
        if stop.code == interrupt.INTERRUPTED:
            interrupt.stop()
        raise


def _refusal(error: Exception) -> str:
    """What the disk refused, or "" when it was not the disk. Safetensors, torch and Daft's workers pass it on as other errors."""
    code, place = getattr(error, "errno", None), getattr(error, "filename", None) or "a file"
    if code in FULL or any(words in str(error) for words in FULL_WORDS):
        return f"no space is left to write {place}."
    if code in IN_THE_WAY:
        return f"{place} cannot be made or read: {str(getattr(error, 'strerror', error)).lower()}."
    return f"{place} may not be read or written here." if code in FORBIDDEN else ""


def _fail(message: str) -> NoReturn:
    typer.secho(f"Error: {message}", fg="red", err=True)
    if "daft" in sys.modules:  # its threads may still work on other parts, and abort an ordinary exit now and then
        interrupt.leave(1)
    sys.exit(1)


if __name__ == "__main__":
    main()
