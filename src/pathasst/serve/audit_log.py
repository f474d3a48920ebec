"""What the service writes down, as JSON lines on this machine: the audit log and the feedback. Knows files alone.

The audit log says who asked when, what ran and how it ended; questions, answers and pictures are not in it unless the settings
ask for text.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows: one process writes
    fcntl = None  # type: ignore[assignment]

_log = logging.getLogger(__name__)


class LogFile:
    """An append-only file of JSON lines, readable by its owner alone; `keep` older files of `max_bytes` each are kept.

    Several processes may write to it.
    """

    def __init__(self, file: Path, max_bytes: int = 50 * 2**20, keep: int = 5) -> None:
        self.file, self.max_bytes, self.keep = file, max_bytes, keep
        self.failures = 0  # entries that could not be written
        self._lock = threading.Lock()

    def write(self, **entry: Any) -> None:
        """Append one entry with the time (UTC). Where that fails (a full disk), the entry is lost, counted and logged."""
        line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **entry}, ensure_ascii=False, default=str)
        data = f"{line}\n".encode("utf-8", "replace")
        with self._lock:
            try:
                self._append(data)
            except OSError as error:
                self.failures += 1
                _log.error("%s could not be written, %d lines so far: %s", self.file.name, self.failures, error)

    def last(self, lines: int) -> list[dict[str, Any]]:
        """The last entries of the current file, oldest first; what cannot be read is left out."""
        from collections import deque

        entries = []
        try:
            with self.file.open(encoding="utf-8") as source:
                tail = deque(source, maxlen=lines)
        except OSError:
            return []
        for line in tail:
            with contextlib.suppress(ValueError):
                entries.append(json.loads(line))
        return entries

    def _append(self, data: bytes) -> None:
        """The whole line or nothing of it: half a line would swallow the next."""
        self.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        while True:
            sink = os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                if fcntl is not None:
                    fcntl.flock(sink, fcntl.LOCK_EX)  # released as the file is closed
                size = os.fstat(sink).st_size
                if not self._is_current(sink):  # another process has turned it over meanwhile
                    continue
                if size and size + len(data) > self.max_bytes:
                    self._rotate()
                    continue
                if os.write(sink, data) < len(data):
                    os.ftruncate(sink, size)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return
            finally:
                os.close(sink)

    def _is_current(self, sink: int) -> bool:
        """Whether the open file is still the one of that name."""
        try:
            return os.path.samestat(os.fstat(sink), self.file.stat())
        except FileNotFoundError:
            return False

    def _rotate(self) -> None:
        for n in range(self.keep - 1, 0, -1):
            older = self.file.with_name(f"{self.file.name}.{n}")
            if older.exists():
                older.replace(self.file.with_name(f"{self.file.name}.{n + 1}"))
        self.file.replace(self.file.with_name(f"{self.file.name}.1"))
