"""The `pathasst` command: parses, calls a room, prints. Sub-commands live one file a room and import lazily."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from typing import NoReturn

import typer

from pathasst.cli import (
    ask,
    clip,
    collect,
    curate,
    dataset,
    demo,
    doctor,
    evaluate,
    instruct,
    mcp,
    mllm,
    models,
    papers,
    serve,
    tools,
    train,
)
from pathasst.errors import PathAsstError

app = typer.Typer(
    name="pathasst",
    help="From open literature to a pathology assistant of your own. Start with `pathasst doctor`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)
app.add_typer(models.app, name="models")
app.add_typer(dataset.app, name="dataset")
app.add_typer(collect.app, name="collect")
app.command("curate")(curate.curate)
train.app.command("select")(curate.train_select)
train.app.command("panels")(curate.train_panels)
app.command("instruct")(instruct.instruct)
app.command("ask")(ask.ask)
app.add_typer(serve.app, name="serve")
app.command("mcp", epilog=mcp.EPILOG)(mcp.mcp)
app.add_typer(papers.app, name="papers")
app.add_typer(tools.app, name="tools")
app.add_typer(train.app, name="train")
app.add_typer(clip.app, name="clip")
app.add_typer(evaluate.app, name="eval")
app.command("show-mask")(mllm.show_mask)
app.command("chat")(mllm.chat)


INTERRUPTED = 130  # what typer makes of Ctrl-C, as shells do
GRACE = 5.0  # seconds in which an interrupted command may tidy up
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FULL_WORDS = ("No space left on device", "File too large", "inline_container.cc")  # the last is torch.save's way to say it
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
ELSEWHERE = (
    "Choose another place (--out; PATHASST_CACHE for weights, PATHASST_HOME for keys), then run the same command again: "
    "finished parts are kept."
)


def main() -> None:
    """Entry point: errors made on purpose, and a disk's refusals, are one message without a traceback; Ctrl-C exits with 130."""
    signal.signal(signal.SIGINT, _interrupt)
    try:
        app()
    except PathAsstError as error:
        _fail(str(error))
    except Exception as error:
        if refusal := _refusal(error):
            _fail(f"{refusal} {ELSEWHERE}")
        raise
    except KeyboardInterrupt:  # raised where typer does not look
        _stop()
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            _stop()
        raise


def _interrupt(*_: object) -> NoReturn:
    """Ctrl-C unwinds the command; where a library swallows that, as Daft does at times, it stops anyway a little later."""
    late = threading.Timer(GRACE, _stop)
    late.daemon = True
    late.start()
    raise KeyboardInterrupt


def _stop() -> NoReturn:
    """End at once: every write is atomic, so nothing is lost, and the threads of some libraries abort in an ordinary exit."""
    import multiprocessing

    typer.secho("Interrupted; finished parts are kept, run the same command to go on.", err=True)
    for child in multiprocessing.active_children():
        child.terminate()
    sys.stdout.flush()
    os._exit(INTERRUPTED)


def _refusal(error: Exception) -> str:
    """What the disk refused, or "" when it was not the disk. Safetensors, torch and Daft's workers pass it on as other errors."""
    code, place = getattr(error, "errno", None), getattr(error, "filename", None) or "a file"
    if code in FULL or any(words in str(error) for words in FULL_WORDS):
        return f"no space is left to write {place}."
    return f"{place} may not be read or written here." if code in FORBIDDEN else ""


def _fail(message: str) -> NoReturn:
    typer.secho(f"Error: {message}", fg="red", err=True)
    sys.exit(1)


if __name__ == "__main__":
    main()
