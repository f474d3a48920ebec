"""Asking a brain many questions: batched where it can, one by one elsewhere. Knows the Brain protocol and no task."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import lru_cache

from pathasst import __version__
from pathasst.assistant.brains.settings import Brain
from pathasst.core.errors import BadInput, Unreachable
from pathasst.core.records import ImageBytes, ToolSpec, Turn
from pathasst.evaluate.predictions import Predictions, Value, key_of

Prompt = tuple[list[Turn], list[ImageBytes], list[ToolSpec]]


def ask_all(
    brain: Brain,
    questions: Sequence[Prompt],
    predictions: Predictions,
    *,
    batch: int = 16,
    progress: Callable[[int], None] | None = None,
) -> list[Value]:
    """The brain's first turn for each: {"said": text, "calls": [[name, arguments], …], "failed": reason or ""}, cached on disk.

    A picture that the brain cannot read costs that item. Raises Unreachable when a server is gone; what came before is kept.
    """
    keys = [
        key_of(__version__, brain.name, _words(turns), [key_of(i) for i in images], [asdict(t) for t in tools])
        for turns, images, tools in questions
    ]

    def some(rows: list[int]) -> list[Value]:
        return [_value(t) for t in _replies(brain, [questions[n] for n in rows])]

    return predictions.fill(keys, some, batch=batch, progress=progress)


def _words(turns: Sequence[Turn]) -> list[list[object]]:
    return [[t.role, t.content, [[c.name, c.arguments] for c in t.tool_calls], t.tool] for t in turns]


def _replies(brain: Brain, questions: Sequence[Prompt]) -> list[Turn | str]:
    """A turn, or the reason of the failure, for each."""
    many = getattr(brain, "reply_many", None)
    if many is not None and len(questions) > 1:
        try:
            return list(many(list(questions)))
        except BadInput:  # one of them cannot be read: find out which
            pass
    replies: list[Turn | str] = []
    for turns, images, tools in questions:
        try:
            replies.append(brain.reply(turns, images, tools))
        except BadInput as error:
            replies.append(str(error))
        except Unreachable as error:
            raise Unreachable(f"{error} Predictions so far are kept; the same command goes on.") from error
    return replies


def _value(turn: Turn | str) -> Value:
    if isinstance(turn, str):
        return {"said": "", "calls": [], "failed": turn}
    return {"said": turn.content, "calls": [[c.name, c.arguments] for c in turn.tool_calls], "failed": ""}


@lru_cache(maxsize=1)
def blank_picture(side: int = 224) -> bytes:
    """A white PNG: what the image-blind baseline sees."""
    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (side, side), "white").save(out, "PNG")
    return out.getvalue()


@contextmanager
def bar(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on the error stream, silent where that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=total)
        yield lambda n: progress.advance(task, n)
