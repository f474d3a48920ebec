"""API keys: made at random, shown once, stored as hashes. Knows a file, no server.

A key is `pa-<id>-<secret>` with 256 random bits; SHA-256 is enough for those (a slow hash protects guessable words, and nobody
guesses 256 bits). The file is read again when it changes, so that `revoke` works on a running server.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pathasst.core.errors import BadSettings

KEYS = "keys.json"
"""The file in the server's folder."""
_KEY = re.compile(r"pa-([0-9a-f]{8})-([A-Za-z0-9_-]{43})")
USER, ADMIN = "user", "admin"
"""What a key may do: ask; or see the metrics and the audit log, too."""
EVERY = ("*",)
_NAME = re.compile(r"[\w.@ -]{1,60}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What is stored of one key."""

    id: str
    name: str  # whose or what for
    sha256: str
    created: str
    revoked: str = ""
    role: str = USER
    slides: tuple[str, ...] = EVERY  # patterns of the slides that it may open, by their path below the server's folder


class KeyStore:
    """The keys of one server, in a file that only its owner may read."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._lock = threading.Lock()
        self._read: tuple[int, dict[str, Key]] = (-1, {})

    def add(self, name: str, role: str = USER, slides: Sequence[str] = EVERY) -> tuple[Key, str]:
        """Make a key. Returns what is stored, and the key itself, which is stored nowhere. Raises BadSettings for a bad name."""
        if role not in (USER, ADMIN):
            raise BadSettings(f"a key's role is {USER} or {ADMIN}.")
        if not _NAME.fullmatch(name):
            raise BadSettings("a key's name has 1 to 60 letters, digits, blanks or . _ @ -.")
        id_, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
        key = Key(id=id_, name=name, sha256=_hash(secret), created=_now(), role=role, slides=tuple(slides) or EVERY)
        with self._lock:
            self._write({**self._keys(), id_: key})
        return key, f"pa-{id_}-{secret}"

    def list(self) -> list[Key]:
        """Every key, oldest first, revoked ones too. Raises BadSettings when the file is damaged."""
        return list(self._keys().values())

    def revoke(self, id: str) -> Key:
        """Revoke the key with this id. Raises BadSettings when there is none."""
        with self._lock:
            keys = self._keys()
            if id not in keys:
                raise BadSettings(f"no key has the id {id!r}; `pathasst serve keys list` shows them.")
            keys = {**keys, id: replace(keys[id], revoked=keys[id].revoked or _now())}
            self._write(keys)
        return keys[id]

    def check(self, secret: str) -> Key | None:
        """The key behind what a client sent, or None. Takes the same time for a wrong secret as for a right one."""
        parts = _KEY.fullmatch(secret)
        key = self._keys().get(parts[1]) if parts else None
        right = hmac.compare_digest(key.sha256 if key else "0" * 64, _hash(parts[2] if parts else secret))
        return key if right and key is not None and not key.revoked else None

    def active(self) -> bool:
        """Whether there is a key that works."""
        return any(not key.revoked for key in self._keys().values())

    def _keys(self) -> dict[str, Key]:
        try:
            changed = self.file.stat().st_mtime_ns
        except OSError:
            return {}
        if changed != self._read[0]:
            try:
                rows = json.loads(self.file.read_text(encoding="utf-8"))
                self._read = changed, {row["id"]: Key(**{**row, "slides": tuple(row.get("slides", EVERY))}) for row in rows}
            except (ValueError, TypeError, KeyError) as error:
                raise BadSettings(f"{self.file} is damaged and holds no keys: {error}") from error
        return self._read[1]

    def _write(self, keys: dict[str, Key]) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = self.file.with_name(f".{self.file.name}.{secrets.token_hex(4)}")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as sink:
            json.dump([asdict(key) for key in keys.values()], sink, indent=1)
        fresh.replace(self.file)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
