"""Conversations of the page that survive a restart, where the operator wants that: one SQLite file. Knows answers, no page.

Each conversation belongs to one user. What is deleted, or older than `keep_days`, is overwritten in the file (`secure_delete`).
Pictures are stored once a conversation. Several processes may use the file.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pathasst.assistant.answer import Answer
from pathasst.core.errors import BadInput

SCHEMA = """
create table if not exists talks (id text primary key, user text not null, title text not null, updated real not null);
create index if not exists talks_of_user on talks (user, updated);
create table if not exists exchanges (
  talk text not null references talks (id) on delete cascade, number integer not null, question text not null,
  answer text not null, details text not null, primary key (talk, number));
create table if not exists blobs (
  talk text not null references talks (id) on delete cascade, digest text not null, data blob not null,
  primary key (talk, digest));
"""
DAY = 86_400.0
BLOB = "$blob"


@dataclass(frozen=True, slots=True)
class StoredTalk:
    """One conversation in a list."""

    id: str
    title: str
    updated: float  # seconds since 1970


@dataclass(frozen=True, slots=True)
class StoredExchange:
    """One question with its answer. `details`: what the page keeps beside them, as JSON values and bytes."""

    question: str
    answer: Answer
    details: dict[str, Any]


class History:
    """The file. `keep_days`: how long after its last question a conversation is kept."""

    def __init__(self, file: Path, keep_days: float) -> None:
        self.file, self.keep_days = file, keep_days
        self._lock = threading.Lock()
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
        with self._open() as base:
            base.executescript(SCHEMA)

    def put(
        self, user: str, talk: str, number: int, question: str, answer: Answer, details: Mapping[str, Any] | None = None
    ) -> None:
        """Store question `number` of a conversation, in place of one of that number; the conversation is made if it is new.

        What came after it is deleted: the question was asked again or edited. Raises BadInput for another user's conversation.
        """
        blobs: dict[str, bytes] = {}
        row = json.dumps(_without_bytes(asdict(answer), blobs), ensure_ascii=False, default=_plain)
        extra = json.dumps(_without_bytes(dict(details or {}), blobs), ensure_ascii=False, default=_plain)
        with self._open() as base:
            base.execute(
                "insert into talks values (?, ?, ?, ?) on conflict (id) do update set updated = excluded.updated "
                "where user = excluded.user",
                (talk, user, question[:200], time.time()),
            )
            if not base.execute("select changes()").fetchone()[0]:
                raise BadInput("this conversation is another user's.")
            base.execute("delete from exchanges where talk = ? and number >= ?", (talk, number))
            base.execute("insert into exchanges values (?, ?, ?, ?, ?)", (talk, number, question, row, extra))
            base.executemany("insert or ignore into blobs values (?, ?, ?)", [(talk, d, data) for d, data in blobs.items()])

    def talks(self, user: str, most: int = 50) -> list[StoredTalk]:
        """The user's conversations that have not expired, the latest first."""
        with self._open() as base:
            rows = base.execute(
                "select id, title, updated from talks where user = ? and updated > ? order by updated desc limit ?",
                (user, self._oldest(), most),
            ).fetchall()
        return [StoredTalk(*row) for row in rows]

    def load(self, user: str, talk: str) -> list[StoredExchange]:
        """A conversation's questions in order; empty for one that is not there, has expired, or is another user's."""
        with self._open() as base:
            rows = base.execute(
                "select question, answer, details from exchanges join talks on talks.id = talk "
                "where talk = ? and user = ? and updated > ? order by number",
                (talk, user, self._oldest()),
            ).fetchall()
            blobs = dict(base.execute("select digest, data from blobs where talk = ?", (talk,))) if rows else {}
        return [StoredExchange(q, _answer(json.loads(a), blobs), _with_bytes(json.loads(d), blobs)) for q, a, d in rows]

    def delete(self, user: str, talk: str | None = None) -> int:
        """Delete one conversation of a user's now, or all of them; how many."""
        with self._open() as base:
            if talk is None:
                return base.execute("delete from talks where user = ?", (user,)).rowcount
            return base.execute("delete from talks where user = ? and id = ?", (user, talk)).rowcount

    def cut(self, user: str, talk: str, number: int) -> None:
        """Delete question `number` and what came after it; a conversation without questions goes whole."""
        with self._open() as base:
            owned = base.execute("select 1 from talks where id = ? and user = ?", (talk, user)).fetchone()
            if owned:
                base.execute("delete from exchanges where talk = ? and number >= ?", (talk, number))
                empty = "not exists (select 1 from exchanges where talk = talks.id)"
                base.execute(f"delete from talks where id = ? and {empty}", (talk,))  # noqa: S608 - our own words

    def users(self) -> dict[str, int]:
        """How many conversations each user has."""
        with self._open() as base:
            return dict(base.execute("select user, count(*) from talks where updated > ? group by user", (self._oldest(),)))

    def sweep(self) -> int:
        """Delete what has expired; how many conversations."""
        with self._open() as base:
            return base.execute("delete from talks where updated <= ?", (self._oldest(),)).rowcount

    def _oldest(self) -> float:
        return time.time() - self.keep_days * DAY

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A transaction. One connection each: a fork, a thread or a full disk leaves none half used."""
        with self._lock, contextlib.closing(sqlite3.connect(self.file, timeout=30)) as base:
            base.execute("pragma foreign_keys = on")
            base.execute("pragma secure_delete = on")
            with base:
                yield base


def _without_bytes(value: Any, blobs: dict[str, bytes]) -> Any:
    """The value with all bytes in `blobs`, named by their digests."""
    if isinstance(value, bytes):
        digest = hashlib.sha256(value).hexdigest()
        blobs[digest] = value
        return {BLOB: digest}
    if isinstance(value, Mapping):
        return {str(name): _without_bytes(entry, blobs) for name, entry in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_without_bytes(entry, blobs) for entry in value]
    return value


def _with_bytes(value: Any, blobs: Mapping[str, bytes]) -> Any:
    if isinstance(value, dict):
        if value.keys() == {BLOB} and value[BLOB] in blobs:
            return blobs[value[BLOB]]
        return {name: _with_bytes(entry, blobs) for name, entry in value.items()}
    return [_with_bytes(entry, blobs) for entry in value] if isinstance(value, list) else value


def _answer(row: dict[str, Any], blobs: Mapping[str, bytes]) -> Answer:
    from pydantic import TypeAdapter

    return TypeAdapter(Answer).validate_python(_with_bytes(row, blobs))


def _plain(value: Any) -> Any:
    """A NumPy number as a number; else raises TypeError, as json does."""
    item = getattr(value, "item", None)
    if item is None:
        raise TypeError(f"{type(value).__name__} is no JSON value")
    return item()
