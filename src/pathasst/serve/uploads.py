"""Files that people upload: one folder a person, names of our own, deleted after a set time. Knows files, no server.

A person's folder is named by a hash, a file by a random id; nothing that a person wrote ever becomes part of a path.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from pathasst.core.errors import BadInput

_ID = re.compile(r"file-[0-9a-f]{32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """One stored file."""

    id: str
    name: str  # as the person called it; shown, never used as a path
    bytes: int
    created: float  # seconds since 1970
    expires: float
    um_per_px: float | None = None


class UploadStore:
    """Every person's files below one folder. `keep_seconds`: until a file is deleted; `quota`: bytes a person may store."""

    def __init__(self, home: Path, keep_seconds: float = 3600.0, quota: int = 512 * 2**20) -> None:
        self.home, self.keep_seconds, self.quota = home, keep_seconds, quota
        self._lock = threading.Lock()

    def put(self, user: str, name: str, data: bytes, um_per_px: float | None = None) -> Upload:
        """Store a file. Raises BadInput when the person's quota is used up."""
        now = time.time()
        upload = Upload(
            id=f"file-{secrets.token_hex(16)}",
            name=re.sub(r"[^\w. -]", "_", Path(name.replace("\\", "/")).name)[:100] or "file",
            bytes=len(data),
            created=now,
            expires=now + self.keep_seconds,
            um_per_px=um_per_px,
        )
        folder = self._folder(user)
        with self._lock:
            self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder.mkdir(exist_ok=True, mode=0o700)
            used = self._used(folder)
            if used + len(data) > self.quota:
                raise BadInput(_full(used, self.quota))
            (folder / f"{upload.id}.json").write_text(json.dumps(asdict(upload)), encoding="utf-8")
            (folder / upload.id).write_bytes(data)  # last: what has no record is never swept
        return upload

    def require_room(self, user: str) -> None:
        """Raises BadInput when the person's quota is used up: before work whose pictures would have nowhere to go."""
        used = self._used(self._folder(user))
        if used >= self.quota:
            raise BadInput(_full(used, self.quota))

    def list(self, user: str) -> list[Upload]:
        """The person's files that have not expired, oldest first."""
        uploads = [u for file in self._folder(user).glob("*.json") if (u := _read(file)) and u.expires > time.time()]
        return sorted(uploads, key=lambda u: u.created)

    def get(self, user: str, id: str) -> Upload:
        """Raises BadInput for a file that is not there, has expired, or is another person's: the three look the same."""
        upload = _read(self._folder(user) / f"{id}.json") if _ID.fullmatch(id) else None
        if upload is None or upload.expires <= time.time():
            raise BadInput(f"there is no file {id[:60]!r}; it may have expired.")
        return upload

    def path(self, user: str, id: str) -> Path:
        """Where the file lies. Raises as `get`."""
        return self._folder(user) / self.get(user, id).id

    def delete(self, user: str, id: str) -> None:
        """Delete a file now. Raises as `get`."""
        self._drop(self.path(user, id))

    def sweep(self) -> int:
        """Delete what has expired, of everybody; how many files that were."""
        removed = 0
        for file in self.home.glob("*/*.json"):
            upload = _read(file)
            if upload is None or upload.expires <= time.time():
                self._drop(file.with_suffix(""))
                removed += 1
        return removed

    def _drop(self, file: Path) -> None:
        with self._lock:
            file.unlink(missing_ok=True)
            file.with_name(f"{file.name}.json").unlink(missing_ok=True)

    def _used(self, folder: Path) -> int:
        return sum(file.stat().st_size for file in folder.glob("*"))

    def _folder(self, user: str) -> Path:
        return self.home / hashlib.sha256(user.encode()).hexdigest()[:32]


def _full(used: int, quota: int) -> str:
    return f"your uploads hold {used >> 20} MB of {quota >> 20} MB; delete some, or wait until they expire."


def _read(file: Path) -> Upload | None:
    try:
        return Upload(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
