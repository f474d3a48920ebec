"""What the server keeps of one open page: pictures, slide, conversations, the question in hand. In memory, for a set time.

A session is found by a random token that the browser tab holds: a reload finds its conversation again, another person does not.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pathasst.core.errors import BadInput
from pathasst.serve.service import LOCAL

if TYPE_CHECKING:
    from pathasst.assistant.answer import Answer
    from pathasst.serve.history import History
    from pathasst.serve.jobs import Job

MAX_SESSIONS = 500
MOST_BYTES = 2 * 2**30
"""Of pictures and answers of all sessions together."""
MOST_BYTES_OF_ONE = 512 * 2**20
"""In one session, when another conversation is begun there."""
STORED = ("name", "image", "width", "height", "um_per_px", "origin", "handle")
"""What the history keeps of a picture; how it looks is made anew."""
_log = logging.getLogger(__name__)
_TOKEN = re.compile(r"[0-9a-f]{32}")


@contextlib.contextmanager
def logged(what: str) -> Iterator[None]:
    """Log what the history cannot do; the conversation on the page goes on."""
    try:
        yield
    except (sqlite3.Error, OSError, ValueError) as error:
        _log.error("a conversation of the history could not be %s: %s", what, error)


@dataclass(slots=True)
class PagePicture:
    """One picture of a session."""

    name: str
    image: bytes  # PNG, written anew from its pixels
    width: int
    height: int
    um_per_px: float | None = None
    origin: str = ""  # where it comes from: "region 400, 500, 1024 × 1024 of slide.svs"
    handle: str = ""  # what the conversation calls it; empty until a question was asked with it
    large: str = ""  # the picture as HTML, as the current one
    small: str = ""  # and as one of several

    @property
    def in_conversation(self) -> bool:
        """Whether a question was asked with it already."""
        return bool(self.handle)


@dataclass(slots=True)
class Exchange:
    """One question, its answer once there is one, and how both look."""

    question: str
    html: str = ""
    answer: Answer | None = None
    pictures: list[PagePicture] = field(default_factory=list)  # new with this question
    feedback_id: str = ""  # of the person's verdict, once there is one


@dataclass(slots=True)
class Talk:
    """One conversation with its pictures. `stored`: it lies in the history and was not opened here yet."""

    id: str = field(default_factory=lambda: secrets.token_hex(16))
    title: str = ""  # of a stored one
    stored: bool = False
    exchanges: list[Exchange] = field(default_factory=list)
    pictures: list[PagePicture] = field(default_factory=list)

    @property
    def last(self) -> Answer | None:
        return next((e.answer for e in reversed(self.exchanges) if e.answer), None)

    @property
    def last_exchange(self) -> Exchange | None:
        """The last question that was answered."""
        return next((e for e in reversed(self.exchanges) if e.answer), None)

    @property
    def size(self) -> int:
        """Bytes, about; the last answer holds the pictures of all before it."""
        html = sum(len(exchange.html) for exchange in self.exchanges)
        return html + sum(len(p.image) for p in self.pictures) + (self.last.size if self.last else 0)

    @property
    def answers(self) -> list[Answer]:
        return [e.answer for e in self.exchanges if e.answer]


@dataclass(slots=True)
class PageSession:
    """Everything of one open page."""

    token: str
    user: str = LOCAL  # whose it is: the key's, where the server asks for keys
    talks: list[Talk] = field(default_factory=lambda: [Talk()])
    open: int = 0  # which of `talks` is shown
    slide: Path | None = None
    slide_name: str = ""
    framed: PagePicture | None = None  # the picture of which a region is being chosen, before the slide
    job: Job[Answer] | None = None
    asking: Exchange | None = None  # the exchange that `job` will answer
    used: float = field(default_factory=time.monotonic)
    home: Path | None = None  # where `folder` is made; None: the platform's folder for temporary files
    folder: Path | None = None  # private files (slides), deleted with the session
    history: History | None = None  # where conversations are kept beyond the session

    def __post_init__(self) -> None:
        if self.history is not None:
            with logged("listed"):
                stored = [Talk(id=t.id, title=t.title, stored=True) for t in self.history.talks(self.user)]
                self.talks = [*reversed(stored), Talk()]
                self.open = len(stored)

    @property
    def talk(self) -> Talk:
        return self.talks[self.open]

    @property
    def size(self) -> int:
        """Bytes of pictures and answers, about."""
        return sum(talk.size for talk in self.talks)

    @property
    def fresh(self) -> bool:
        """Whether nothing was done yet."""
        return len(self.talks) == 1 and not self.talk.exchanges and not self.talk.pictures and self.slide is None

    def remember(self, talk: Talk, exchange: Exchange) -> None:
        """Keep an answered question in the history, if there is one; where that fails, the answer is not lost for it."""
        if self.history is not None and exchange.answer is not None and exchange in talk.exchanges:
            pictures = [{n: getattr(p, n) for n in STORED} for p in exchange.pictures]
            with logged("stored"):
                number = talk.exchanges.index(exchange)
                self.history.put(self.user, talk.id, number, exchange.question, exchange.answer, {"pictures": pictures})

    def cut(self, talk: Talk, number: int) -> None:
        """Delete question `number` and those after it from the history."""
        if self.history is not None:
            with logged("deleted"):
                self.history.cut(self.user, talk.id, number)

    def delete(self) -> None:
        """Delete the open conversation, here and in the history; another one, or an empty one, is open then.

        Raises BadInput where the history cannot delete it: a promise to delete is never broken silently.
        """
        if self.history is not None:
            try:
                self.history.delete(self.user, self.talk.id)
            except (sqlite3.Error, OSError) as error:
                raise BadInput(f"the conversation could not be deleted from the history: {error}") from error
        self.talks.pop(self.open)
        if not self.talks or self.talks[-1].exchanges or self.talks[-1].stored:
            self.talks.append(Talk())
        self.open, self.framed = len(self.talks) - 1, None

    @property
    def busy(self) -> bool:
        return self.job is not None and not self.job.done

    def private(self) -> Path:
        """The session's own folder, which no web address leads to."""
        if self.folder is None:
            if self.home is not None:
                self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.folder = Path(tempfile.mkdtemp(prefix="session-", dir=self.home))
        return self.folder

    def close(self) -> None:
        """Stop what runs and delete what lies on disk."""
        if self.job is not None:
            self.job.cancel()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


class PageSessions:
    """All open pages. A session not used for `keep_seconds` is cleared, and the longest unused ones when all hold too much.

    `home`: where the sessions' private files lie. What a server that was killed has left there goes, too, once it is old enough.
    """

    def __init__(
        self,
        keep_seconds: float,
        most: int = MAX_SESSIONS,
        most_bytes: int = MOST_BYTES,
        home: Path | None = None,
        history: History | None = None,
    ) -> None:
        self.keep_seconds, self.most, self.most_bytes, self.home, self.history = keep_seconds, most, most_bytes, home, history
        self._sessions: dict[tuple[str, str], PageSession] = {}  # by user and token
        self._lock = threading.Lock()

    def get(self, token: str, user: str = LOCAL) -> PageSession:
        """The session of a user's browser tab; a new one for a token not known. Raises BadInput for what is no token."""
        if not _TOKEN.fullmatch(token or ""):
            raise BadInput("the page has not finished loading; wait a moment, or reload it.")
        with self._lock:
            self._clear((user, token))
            session = self._sessions.get((user, token))
            if session is None:
                session = self._sessions[user, token] = PageSession(token, user, home=self.home, history=self.history)
            session.used = time.monotonic()
            if session.folder is not None:
                os.utime(session.folder)
            return session

    def sweep(self) -> None:
        """Clear what nobody has used for `keep_seconds`."""
        with self._lock:
            self._clear()
        for folder in self.home.glob("session-*") if self.home else ():
            with contextlib.suppress(FileNotFoundError):  # its session was closed meanwhile
                if time.time() - folder.stat().st_mtime > self.keep_seconds:
                    shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Clear all sessions."""
        with self._lock:
            for owner in list(self._sessions):
                self._sessions.pop(owner).close()

    def _clear(self, owner: tuple[str, str] = ("", "")) -> None:
        """`owner`: user and token of a session that stays, however much it holds."""
        now, idle = time.monotonic(), sorted((d for d in self._sessions.values() if not d.busy), key=lambda d: d.used)
        total, count = sum(d.size for d in self._sessions.values()), len(self._sessions) + (owner not in self._sessions)
        for session in idle:
            too_much = (total > self.most_bytes or count > self.most) and (session.user, session.token) != owner
            if too_much or now - session.used > self.keep_seconds:
                total, count = total - session.size, count - 1
                self._sessions.pop((session.user, session.token)).close()
