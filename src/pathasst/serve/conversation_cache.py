"""Conversations that a client goes on with: the API is stateless, its messages hold words alone, but an answer knows more.

The server remembers each answer under what the client will send back, so that the next question finds the pictures that tools
made and the abstracts that were retrieved. What it does not remember (expired, edited, another server) is read from the messages.
Everything lies in memory, belongs to its user, and is forgotten after a set time.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from typing import Generic, TypeVar

from cachetools import TTLCache

from pathasst.assistant.answer import Answer

T = TypeVar("T")
MOST = 200
"""Answers remembered in all; the least used go first."""
MOST_BYTES = 256 * 2**20


class UserCache(Generic[T]):
    """Values by user and name, each for `keep_seconds`, at most `most` and `most_bytes` of them. Safe for threads."""

    def __init__(self, keep_seconds: float, most: int = MOST, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._least = -(-most_bytes // most)  # so that no more than `most` fit
        self._values: TTLCache[tuple[str, str], tuple[int, T]] = TTLCache(
            most_bytes + most, keep_seconds, getsizeof=lambda entry: max(entry[0], self._least)
        )
        self._lock = threading.Lock()

    def put(self, user: str, name: str, value: T, size: int) -> None:
        """Keep a value of `size` bytes; one that is larger than all room is not kept."""
        with self._lock:
            self._values.pop((user, name), None)
            if size <= self._most_bytes:
                self._values[user, name] = (size, value)

    def get(self, user: str, name: str) -> T | None:
        """The value, unless it is not there, has expired or is another user's."""
        with self._lock:
            entry = self._values.get((user, name))
            return entry[1] if entry else None

    def forget(self, user: str, name: str) -> None:
        """Drop a value now."""
        with self._lock:
            self._values.pop((user, name), None)

    def sweep(self) -> None:
        """Drop what has expired."""
        with self._lock:
            self._values.expire()

    def __len__(self) -> int:
        with self._lock:
            return len(self._values)


class Conversations:
    """Answers by user and by the words of the conversation. `keep_seconds`: until an answer is forgotten."""

    def __init__(self, keep_seconds: float, most: int = MOST, most_bytes: int = MOST_BYTES) -> None:
        self._answers: UserCache[Answer] = UserCache(keep_seconds, most, most_bytes)

    def remember(self, user: str, messages: Sequence[str], answer: Answer) -> None:
        """Keep an answer. `messages`: every message's words up to and with the answer as the client was sent it."""
        self._answers.put(user, _digest(messages), answer, answer.size)

    def recall(self, user: str, messages: Sequence[str]) -> Answer | None:
        """The answer that ended this user's conversation of these words, or None."""
        return self._answers.get(user, _digest(messages))

    def sweep(self) -> None:
        """Forget what has expired."""
        self._answers.sweep()

    def __len__(self) -> int:
        return len(self._answers)


def _digest(messages: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for words in messages:
        digest.update(len(words).to_bytes(8, "big") + words.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
