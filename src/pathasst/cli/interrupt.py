"""Ctrl-C: a command stops within two seconds, without a traceback, and says that it goes on. Knows no command."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import NoReturn

import typer

INTERRUPTED = 130  # what typer makes of Ctrl-C, as shells do
GRACE = 2.0  # seconds in which an interrupted command may tidy up


def listen() -> None:
    """From now on Ctrl-C unwinds the command; where a library swallows that, as Daft does at times, it stops a little later."""
    signal.signal(signal.SIGINT, _interrupt)
    sys.unraisablehook = _unraisable


def stop() -> NoReturn:
    """Say that it was interrupted, and end."""
    typer.secho("Interrupted; finished parts are kept, run the same command to go on.", err=True)
    leave(INTERRUPTED)


def leave(code: int) -> NoReturn:
    """End at once: every write is atomic, so nothing is lost, and the threads of some libraries abort in an ordinary exit."""
    import multiprocessing

    for child in multiprocessing.active_children():
        child.terminate()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def stop_later() -> threading.Timer:
    """Stop after the grace, unless the timer is cancelled before."""
    late = threading.Timer(GRACE, stop)
    late.daemon = True
    late.start()
    return late


def _interrupt(*_: object) -> NoReturn:
    stop_later()
    raise KeyboardInterrupt


def _unraisable(what: sys.UnraisableHookArgs) -> None:
    """Ctrl-C that fell into a destructor or a callback, from where nothing can be raised: stop here."""
    if what.exc_type is KeyboardInterrupt:
        stop()
    sys.__unraisablehook__(what)
