"""Conversations that a client goes on with: the API is stateless, its messages hold words alone, but an answer knows more.

The server remembers each answer under what the client will send back, so that the next question finds the pictures that tools
made and the abstracts that were retrieved. What it does not remember (expired, edited, another server) is read from the messages.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence

from pathasst.assistant.answer import Answer

MOST = 200
"""Answers remembered in all; the oldest go first."""
MOST_BYTES = 256 * 2**20


class Conversations:
    """Answers by user and by the words of the conversation. `keep_seconds`: until an answer is forgotten."""

    def __init__(self, keep_seconds: float, most: int = MOST, most_bytes: int = MOST_BYTES) -> None:
        self.keep_seconds, self.most, self.most_bytes = keep_seconds, most, most_bytes
        self._answers: OrderedDict[str, tuple[float, int, Answer]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def remember(self, user: str, messages: Sequence[str], answer: Answer) -> None:
        """Keep an answer. `messages`: every message's words up to and with the answer as the client was sent it."""
        size = answer.size
        with self._lock:
            self._drop(key := _key(user, messages))
            self._answers[key] = (time.monotonic() + self.keep_seconds, size, answer)
            self._bytes += size
            while self._answers and (len(self._answers) > self.most or self._bytes > self.most_bytes):
                self._drop(next(iter(self._answers)))

    def recall(self, user: str, messages: Sequence[str]) -> Answer | None:
        """The answer that ended this user's conversation of these words, or None."""
        with self._lock:
            answer = self._answers.get(_key(user, messages))
            return answer[2] if answer and answer[0] > time.monotonic() else None

    def sweep(self) -> None:
        """Forget what has expired."""
        with self._lock:
            for key in [k for k, (until, _, _) in self._answers.items() if until <= time.monotonic()]:
                self._drop(key)

    def __len__(self) -> int:
        return len(self._answers)

    def _drop(self, key: str) -> None:
        answer = self._answers.pop(key, None)
        self._bytes -= answer[1] if answer else 0


def _key(user: str, messages: Sequence[str]) -> str:
    digest = hashlib.sha256(user.encode())
    for words in messages:
        digest.update(len(words).to_bytes(8, "big") + words.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
