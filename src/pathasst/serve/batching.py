"""One brain for many people: replies asked for at the same time are generated together, where the brain can (`reply_many`).

No thread of its own: whoever holds the model takes along all who wait. A lone request is streamed where the brain can (`stream`)
and stops between two tokens when its person has left.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from pathasst.assistant.brain import Brain, Streaming
from pathasst.assistant.worker import Cancelled
from pathasst.core.records import ImageBytes, ToolSpec, Turn

_LOOK_SECONDS = 0.2  # how often one who waits looks whether its person has left


@dataclass(slots=True, eq=False)
class _Asked:
    """One request for a reply, and what came of it."""

    turns: Sequence[Turn]
    images: Sequence[ImageBytes]
    tools: Sequence[ToolSpec]
    left: Callable[[], bool]
    turn: Turn | None = None
    error: Exception | None = None

    @property
    def done(self) -> bool:
        return self.turn is not None or self.error is not None


@dataclass(slots=True)
class SharedBrain:
    """A brain that several threads use.

    `most`: replies generated together; `told`: is given the size of every batch. A brain whose `parallel` is above one (a server
    that batches by itself) is asked by as many threads at once.
    """

    brain: Brain
    most: int = 8
    told: Callable[[int], None] = lambda size: None
    _waiting: list[_Asked] = field(default_factory=list)
    _change: threading.Condition = field(default_factory=threading.Condition)
    _free: int = field(init=False)

    def __post_init__(self) -> None:
        self._free = getattr(self.brain, "parallel", 1)

    def view(self, cancel: threading.Event) -> View:
        """The brain as one question uses it; `cancel`: set when its person leaves."""
        return View(self, cancel, self.brain.name, self.brain.sees)

    def stream(self, asked: _Asked) -> Generator[str | Turn, None, None]:
        """Pieces of text, if the model is free for this request alone, and the Turn. Raises what the brain raises."""
        batch = self._wait(asked)
        if batch:
            try:
                self.told(len(batch))
                if len(batch) == 1:
                    yield from self._alone(asked)
                else:
                    self._together(batch)
            finally:
                with self._change:
                    self._free += 1
                    self._change.notify_all()
        if asked.error is not None:
            raise asked.error
        if asked.turn is not None:
            yield asked.turn

    def _wait(self, asked: _Asked) -> list[_Asked]:
        """Wait for the model, or for another to answer this request along with its own; then the batch is empty."""
        with self._change:
            self._waiting.append(asked)
            while not asked.done and (self._free < 1 or asked not in self._waiting):
                self._change.wait(_LOOK_SECONDS)
                if asked.left() and asked in self._waiting:
                    self._waiting.remove(asked)
                    raise Cancelled("cancelled")
            if asked.done:
                return []
            self._free -= 1
            self._waiting.remove(asked)
            more = self._waiting[: self.most - 1] if hasattr(self.brain, "reply_many") else []
            self._waiting = [a for a in self._waiting if a not in more]
            return [asked, *more]

    def _alone(self, asked: _Asked) -> Generator[str, None, None]:
        try:
            if not isinstance(self.brain, Streaming):
                asked.turn = self.brain.reply(asked.turns, asked.images, asked.tools)
                return
            with closing(self.brain.stream(asked.turns, asked.images, asked.tools)) as pieces:
                for piece in pieces:
                    if isinstance(piece, Turn):
                        asked.turn = piece
                    elif asked.left():
                        raise Cancelled("cancelled")
                    else:
                        yield piece
        except Exception as error:  # noqa: BLE001 - raised by `stream`, for its one reader
            asked.error = error

    def _together(self, batch: list[_Asked]) -> None:
        """One generation for all. If it fails, which of them is at fault is not known: each is asked alone."""
        requests = [(a.turns, a.images, a.tools) for a in batch]
        try:
            turns = self.brain.reply_many(requests)  # type: ignore[attr-defined]
            for asked, turn in zip(batch, turns, strict=True):
                asked.turn = turn
        except Exception:  # noqa: BLE001 - told by the one request that fails alone as well
            for asked in batch:
                try:
                    asked.turn = self.brain.reply(asked.turns, asked.images, asked.tools)
                except Exception as error:  # noqa: BLE001 - carried to the thread that asked
                    asked.error = error


@dataclass(slots=True)
class View:
    """A shared brain as one question uses it: the Brain protocol, and `stream`."""

    shared: SharedBrain
    cancel: threading.Event
    name: str
    sees: bool

    def reply(self, turns: Sequence[Turn], images: Sequence[ImageBytes], tools: Sequence[ToolSpec]) -> Turn:
        """See `Brain.reply`. Raises Cancelled when the person has left."""
        return next(piece for piece in self.stream(turns, images, tools) if isinstance(piece, Turn))

    def stream(
        self, turns: Sequence[Turn], images: Sequence[ImageBytes], tools: Sequence[ToolSpec]
    ) -> Generator[str | Turn, None, None]:
        """Pieces of text as they are made, and the Turn last."""
        return self.shared.stream(_Asked(turns, images, tools, self.cancel.is_set))
