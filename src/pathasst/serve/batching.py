"""One brain for many people: replies asked for at the same time are generated together, where the brain can (`reply_many`).

No thread of its own: whoever holds the model takes along all who wait. A lone request is streamed where the brain can (`stream`)
and stops between two tokens when its person has left.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

from pathasst.assistant.brains.settings import Brain, ReplyOptions, Streaming
from pathasst.assistant.grounding import Grounding
from pathasst.assistant.worker import Cancelled
from pathasst.core.errors import BadSettings
from pathasst.core.records import ImageBytes, ToolSpec, Turn

_POLL_SECONDS = 0.2  # how often one who waits looks whether its person has left


@dataclass(slots=True, eq=False)
class _Request:
    """One request for a reply, and what came of it."""

    turns: Sequence[Turn]
    images: Sequence[ImageBytes]
    tools: Sequence[ToolSpec]
    abandoned: Callable[[], bool]
    brain: Brain | None = None  # one with options of its own, asked alone
    turn: Turn | None = None
    error: Exception | None = None

    @property
    def done(self) -> bool:
        return self.turn is not None or self.error is not None


@dataclass(slots=True)
class SharedBrain:
    """A brain that several threads use.

    `most`: replies generated together; `on_batch` gets the size of each batch. A brain whose `parallel` is above one (a server
    that batches by itself) is asked by as many threads at once.
    """

    brain: Brain
    most: int = 8
    on_batch: Callable[[int], None] = lambda size: None
    _waiting: list[_Request] = field(default_factory=list)
    _change: threading.Condition = field(default_factory=threading.Condition)
    _free: int = field(init=False)

    def __post_init__(self) -> None:
        self._free = getattr(self.brain, "parallel", 1)

    def view(self, cancel: threading.Event, options: ReplyOptions | None = None) -> BrainView:
        """The brain as one question uses it; `cancel`: set when its person leaves; `options`: as its program wants replies.

        Raises BadSettings for options that the brain does not take.
        """
        own = None
        if options is not None and options != ReplyOptions():
            with_options = getattr(self.brain, "with_options", None)
            decoding = replace(options, tool=None)  # whether a call came can be seen from outside
            if with_options is None and decoding != ReplyOptions():
                raise BadSettings(f"{self.brain.name} takes no settings of decoding: {', '.join(decoding.body())}.")
            own = with_options(options) if with_options is not None else None
        return BrainView(self, cancel, self.brain.name, self.brain.sees, own)

    def stream(self, request: _Request) -> Generator[str | Turn, None, None]:
        """Pieces of text, if the model is free for this request alone, and the Turn. Raises what the brain raises."""
        batch = self._wait(request)
        if batch:
            try:
                self.on_batch(len(batch))
                if len(batch) == 1:
                    yield from self._alone(request)
                else:
                    self._together(batch)
            finally:
                with self._change:
                    self._free += 1
                    self._change.notify_all()
        if request.error is not None:
            raise request.error
        if request.turn is not None:
            yield request.turn

    def _wait(self, request: _Request) -> list[_Request]:
        """Wait for the model, or for another to answer this request along with its own; then the batch is empty."""
        with self._change:
            self._waiting.append(request)
            while not request.done and (self._free < 1 or request not in self._waiting):
                self._change.wait(_POLL_SECONDS)
                if request.abandoned() and request in self._waiting:
                    self._waiting.remove(request)
                    raise Cancelled("cancelled")
            if request.done:
                return []
            self._free -= 1
            self._waiting.remove(request)
            alone = request.brain is not None or not hasattr(self.brain, "reply_many")
            more = [] if alone else [a for a in self._waiting if a.brain is None][: self.most - 1]
            self._waiting = [a for a in self._waiting if a not in more]
            return [request, *more]

    def _alone(self, request: _Request) -> Generator[str, None, None]:
        brain = request.brain or self.brain
        try:
            if not isinstance(brain, Streaming):
                request.turn = brain.reply(request.turns, request.images, request.tools)
                return
            with closing(brain.stream(request.turns, request.images, request.tools)) as pieces:
                for piece in pieces:
                    if isinstance(piece, Turn):
                        request.turn = piece
                    elif request.abandoned():
                        raise Cancelled("cancelled")
                    else:
                        yield piece
        except Exception as error:  # noqa: BLE001 - raised by `stream`, for its one reader
            request.error = error

    def _together(self, batch: list[_Request]) -> None:
        """One generation for all. If it fails, which of them is at fault is not known: each is asked alone."""
        requests = [(a.turns, a.images, a.tools) for a in batch]
        try:
            turns = self.brain.reply_many(requests)  # type: ignore[attr-defined]
            for request, turn in zip(batch, turns, strict=True):
                request.turn = turn
        except Exception:  # noqa: BLE001 - raised by the one request that fails alone as well
            for request in batch:
                try:
                    request.turn = self.brain.reply(request.turns, request.images, request.tools)
                except Exception as error:  # noqa: BLE001 - carried to the thread that asked
                    request.error = error


@dataclass(slots=True)
class BrainView:
    """A shared brain as one question uses it: the Brain protocol, and `stream`."""

    shared: SharedBrain
    cancel: threading.Event
    name: str
    sees: bool
    brain: Brain | None = None  # with this question's options

    @property
    def grounding(self) -> Grounding:
        """See `Grounding`."""
        return getattr(self.shared.brain, "grounding", Grounding.CHECKED)

    @property
    def route(self) -> Any:
        """The brain's `route`, None where it has none; a router may be asked from several threads."""
        return getattr(self.shared.brain, "route", None)

    def reply(self, turns: Sequence[Turn], images: Sequence[ImageBytes], tools: Sequence[ToolSpec]) -> Turn:
        """See `Brain.reply`. Raises Cancelled when the person has left."""
        return next(piece for piece in self.stream(turns, images, tools) if isinstance(piece, Turn))

    def stream(
        self, turns: Sequence[Turn], images: Sequence[ImageBytes], tools: Sequence[ToolSpec]
    ) -> Generator[str | Turn, None, None]:
        """Pieces of text as they are made, and the Turn last."""
        return self.shared.stream(_Request(turns, images, tools, self.cancel.is_set, self.brain))
