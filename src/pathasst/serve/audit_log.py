"""What the service writes down, as JSON lines on this machine: the audit log and the feedback. Knows files alone.

The audit log says who asked when, what ran and how it ended; questions, answers and pictures are not in it unless the settings
ask for text.
"""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any


class Journal:
    """An append-only file of JSON lines, readable by its owner alone; `keep` older files of `max_bytes` each are kept."""

    def __init__(self, file: Path, max_bytes: int = 50 * 2**20, keep: int = 5) -> None:
        self.file, self.max_bytes, self.keep = file, max_bytes, keep
        self._lock = threading.Lock()

    def write(self, **entry: Any) -> None:
        """Append one entry with the time (UTC)."""
        line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **entry}, ensure_ascii=False, default=str)
        with self._lock:
            self.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if self.file.exists() and self.file.stat().st_size + len(line) > self.max_bytes:
                self._rotate()
            with os.fdopen(os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a", encoding="utf-8") as sink:
                sink.write(line + "\n")

    def _rotate(self) -> None:
        for n in range(self.keep - 1, 0, -1):
            older = self.file.with_name(f"{self.file.name}.{n}")
            if older.exists():
                older.replace(self.file.with_name(f"{self.file.name}.{n + 1}"))
        self.file.replace(self.file.with_name(f"{self.file.name}.1"))
