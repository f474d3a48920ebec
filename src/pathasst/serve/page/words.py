"""What went wrong in plain words, and what to do next. Never a stack trace: the unforeseen is logged under a short number."""

from __future__ import annotations

import logging
import secrets
from concurrent.futures import CancelledError

from pathasst.core.errors import BadDataset, BadInput, BadSettings, MissingPackage, MissingWeights, PathAsstError, Unreachable
from pathasst.llm.transport import Refused
from pathasst.serve.jobs import Busy, Closing
from pathasst.serve.markup.words import escape, without_addresses

_log = logging.getLogger(__name__)

_ADVICE: tuple[tuple[type[Exception], str, str], ...] = (
    (Busy, "The assistant is busy", "Your question is still in the box: wait some seconds and send it again."),
    (Closing, "The server is shutting down", "Ask again when it is back."),
    (MissingWeights, "A model is not on this server", "Ask whoever runs this server to fetch it; the command stands above."),
    (MissingPackage, "A part of the software is not installed", "Ask whoever runs this server; the command stands above."),
    (Unreachable, "The model's server does not answer", "Try again in a minute. If it stays so, tell whoever runs this server."),
    (BadDataset, "The paper collection is not ready", "Ask whoever runs this server to build it: pathasst papers build."),
    (BadSettings, "This cannot be done as asked", "Change the entry and try again."),
    (BadInput, "This cannot be used", "Choose another file or change the entry, and try again."),
)


def explained(error: BaseException) -> str:
    """An alert as HTML: what happened, the reason, what to do next."""
    if isinstance(error, CancelledError):
        return alert("Stopped", "The question was stopped before it began.", "Ask again whenever you like.")
    if isinstance(error, Refused) and error.status in (401, 403):
        reason = f"The server that runs the model refused this server's key (HTTP {error.status})."
        return alert("The model's server refused us", reason, "Asking again will not help: tell whoever runs this server.")
    for kind, title, advice in _ADVICE:
        if isinstance(error, kind):
            return alert(title, without_addresses(str(error)), advice)
    if isinstance(error, PathAsstError):
        return alert("This did not work", str(error), "Try again, or with another picture.")
    number = secrets.token_hex(3)
    _log.error("page error %s", number, exc_info=error)
    reason = f"Something failed inside the server. It was written to its log under {number}."
    return alert("This did not work", reason, "Try again; if it happens again, give that number to whoever runs this server.")


def alert(title: str, reason: str, advice: str = "") -> str:
    """A message that a screen reader speaks at once."""
    if reason.split(" ", 1)[0].isalpha():  # a file's name stays as it is
        reason = reason[:1].upper() + reason[1:]
    return (
        f'<div class="pa-alert" role="alert"><strong>{escape(title)}</strong><p>{escape(reason)}</p>'
        f"{f'<p>{escape(advice)}</p>' if advice else ''}</div>"
    )
