"""What the server keeps of one open page: pictures, slide, conversations, the question in hand. In memory, for a set time.

A desk is found by a random token that the browser tab holds: a reload finds its conversation again, another person does not.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pathasst.core.errors import BadInput
from pathasst.serve.service import LOCAL

if TYPE_CHECKING:
    from pathasst.assistant.answer import Answer
    from pathasst.serve.jobs import Job

MAX_DESKS = 500
MOST_BYTES = 2 * 2**30
"""Of pictures and answers on all desks together."""
MOST_BYTES_OF_ONE = 512 * 2**20
"""On one desk, when another conversation is begun there."""
_TOKEN = re.compile(r"[0-9a-f]{32}")


@dataclass(slots=True)
class PagePicture:
    """One picture on the desk."""

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
    verdict: str = ""  # id of the person's judgement, once there is one


@dataclass(slots=True)
class Talk:
    """One conversation with its pictures."""

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
class Desk:
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
    folder: Path | None = None  # private files (slides), deleted with the desk

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

    @property
    def busy(self) -> bool:
        return self.job is not None and not self.job.done

    def private(self) -> Path:
        """The desk's own folder, which no web address leads to."""
        if self.folder is None:
            if self.home is not None:
                self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.folder = Path(tempfile.mkdtemp(prefix="desk-", dir=self.home))
        return self.folder

    def close(self) -> None:
        """Stop what runs and delete what lies on disk."""
        if self.job is not None:
            self.job.cancel()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


class Desks:
    """All open pages. A desk not used for `keep_seconds` is cleared, and the longest unused ones when all hold too much.

    `home`: where the desks' private files lie. What a server that was killed has left there goes, too, once it is old enough.
    """

    def __init__(
        self, keep_seconds: float, most: int = MAX_DESKS, most_bytes: int = MOST_BYTES, home: Path | None = None
    ) -> None:
        self.keep_seconds, self.most, self.most_bytes, self.home = keep_seconds, most, most_bytes, home
        self._desks: dict[tuple[str, str], Desk] = {}  # by user and token
        self._lock = threading.Lock()

    def get(self, token: str, user: str = LOCAL) -> Desk:
        """The desk of a user's browser tab; a new one for a token not known. Raises BadInput for what is no token."""
        if not _TOKEN.fullmatch(token or ""):
            raise BadInput("the page has not finished loading; wait a moment, or reload it.")
        with self._lock:
            self._clear((user, token))
            desk = self._desks.get((user, token)) or self._desks.setdefault((user, token), Desk(token, user, home=self.home))
            desk.used = time.monotonic()
            if desk.folder is not None:
                os.utime(desk.folder)
            return desk

    def sweep(self) -> None:
        """Clear what nobody has used for `keep_seconds`."""
        with self._lock:
            self._clear()
        for folder in self.home.glob("desk-*") if self.home else ():
            with contextlib.suppress(FileNotFoundError):  # its desk was closed meanwhile
                if time.time() - folder.stat().st_mtime > self.keep_seconds:
                    shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Clear all desks."""
        with self._lock:
            for owner in list(self._desks):
                self._desks.pop(owner).close()

    def _clear(self, owner: tuple[str, str] = ("", "")) -> None:
        """`owner`: user and token of a desk that stays, however much it holds."""
        now, idle = time.monotonic(), sorted((d for d in self._desks.values() if not d.busy), key=lambda d: d.used)
        total, count = sum(d.size for d in self._desks.values()), len(self._desks) + (owner not in self._desks)
        for desk in idle:
            too_much = (total > self.most_bytes or count > self.most) and (desk.user, desk.token) != owner
            if too_much or now - desk.used > self.keep_seconds:
                total, count = total - desk.size, count - 1
                self._desks.pop((desk.user, desk.token)).close()
