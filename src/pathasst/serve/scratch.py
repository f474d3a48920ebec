"""What one server process lays on disk for itself alone: uploads in the making, slides that are open. Knows files, no server.

Each process has a folder of its own below `home`, and holds a lock beside it. It is deleted when the process ends in order; what
a killed process has left is known by its free lock, and deleted by the next one.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: what was left is told by its age alone
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"


class Scratch:
    """The folder of this process; what dead ones have left goes at once. `keep_seconds`: the age at which any file in it goes."""

    def __init__(self, home: Path, keep_seconds: float) -> None:
        self.home, self.keep_seconds = home, keep_seconds
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._clear_left()
        name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._lock = os.open(home / f"{name}{LOCK}", os.O_RDWR | os.O_CREAT, 0o600)
        if fcntl is not None:
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.folder = home / name
        self.folder.mkdir(mode=0o700)

    def sweep(self) -> int:
        """Delete files that nobody has written to for `keep_seconds`; how many. A session keeps its own while it needs them."""
        removed, oldest = 0, time.time() - self.keep_seconds
        for file in self.folder.glob("page/**/*"):
            try:
                if file.is_file() and file.stat().st_mtime < oldest:
                    file.unlink()
                    removed += 1
            except OSError:  # gone meanwhile
                continue
        return removed

    def close(self) -> None:
        """Delete everything."""
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.home / f"{self.folder.name}{LOCK}").unlink(missing_ok=True)
        os.close(self._lock)

    def _clear_left(self) -> None:
        for lock in self.home.glob(f"*{LOCK}"):
            if self._is_free(lock):
                shutil.rmtree(lock.with_name(lock.name.removesuffix(LOCK)), ignore_errors=True)
                lock.unlink(missing_ok=True)

    def _is_free(self, lock: Path) -> bool:
        if fcntl is None:
            return time.time() - lock.stat().st_mtime > self.keep_seconds
        try:
            handle = os.open(lock, os.O_RDWR)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        finally:
            os.close(handle)
        return True
