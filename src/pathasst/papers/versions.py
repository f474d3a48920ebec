"""Versions of an index on disk: atomic to publish, cheap to make, checkable. Knows files, not what is in them.

```
<home>/CURRENT              the number of the version that readers open, replaced atomically
<home>/versions/v000003/    version.json, words/ (tantivy), deleted-<segment>.npy
<home>/segments/<name>/     abstracts and vectors; immutable, shared by versions
```
Everything new is written under a name no reader looks at, forced to disk, renamed, and only then does CURRENT point to it. A
crash at any time leaves the last good version; what it left half-written is removed by the next writer.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from pathasst.core.errors import BadDataset
from pathasst.core.files import sha256_of, write_atomic

CURRENT, VERSIONS, SEGMENTS, BUILDING = "CURRENT", "versions", "segments", ".building"
RECORD = "version.json"


class FileInfo(BaseModel):
    """Size and content of one file."""

    bytes: int
    sha256: str


class SegmentInfo(BaseModel):
    """One segment as a version uses it."""

    name: str
    rows: int
    vectors: int
    deleted: int = 0
    files: dict[str, FileInfo] = Field(default_factory=dict)


class Version(BaseModel):
    """What one version of the index is made of."""

    number: int
    created: str  # ISO 8601, UTC
    embedder: str  # name of the embedder
    embedder_version: str = ""  # empty: no vectors
    segments: list[SegmentInfo] = Field(default_factory=list)
    files: dict[str, FileInfo] = Field(default_factory=dict)  # of the version's own folder
    sources: list[str] = Field(default_factory=list)
    settings: dict[str, Any] = Field(default_factory=dict)

    @property
    def abstracts(self) -> int:
        return sum(s.rows - s.deleted for s in self.segments)

    @property
    def vectors(self) -> int:
        return sum(s.vectors for s in self.segments)


def version_folder(home: Path, number: int) -> Path:
    """Where a version's own files lie."""
    return home / VERSIONS / f"v{number:06d}"


def current(home: Path) -> Version:
    """The version readers should open. Raises BadDataset when there is none or it is damaged."""
    pointer = home / CURRENT
    if not pointer.is_file():
        raise BadDataset(f"there is no paper index in {home}. Make it: pathasst papers build")
    try:
        number = int(pointer.read_text(encoding="ascii"))
        return Version.model_validate_json((version_folder(home, number) / RECORD).read_bytes())
    except (OSError, ValueError) as error:
        raise BadDataset(f"the paper index in {home} is damaged ({error}). Make it again: pathasst papers build") from error


def exists(home: Path) -> bool:
    """Whether an index can be opened there, by its pointer alone."""
    return (home / CURRENT).is_file()


@contextlib.contextmanager
def writing(home: Path) -> Iterator[None]:
    """The right to write, for one process at a time; a crash gives it back. Raises BadDataset when another process has it."""
    import fcntl

    home.mkdir(parents=True, exist_ok=True)
    with (home / "LOCK").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BadDataset(f"another process is writing the paper index in {home}; wait until it is done.") from None
        sweep(home)
        yield
        sweep(home)


@contextlib.contextmanager
def building(home: Path, name: str, kind: str) -> Iterator[Path]:
    """A folder to fill; on success it is forced to disk and gets its final name, on an error it is removed."""
    final = home / kind / name
    staging = home / kind / f"{BUILDING}-{name}"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        yield staging
        for path in [*staging.rglob("*"), staging]:
            _force(path)
        if final.exists():
            shutil.rmtree(final)
        staging.rename(final)
        _force(final.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def publish(home: Path, number: int) -> None:
    """Make a finished version the one readers open."""
    write_atomic(home / CURRENT, str(number).encode())
    _force(home)


def listing(folder: Path) -> dict[str, FileInfo]:
    """Every file under a folder with its size and sha256, the version's own record and locks aside."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != RECORD and p.suffix != ".lock")
    return {str(p.relative_to(folder)): FileInfo(bytes=p.stat().st_size, sha256=sha256_of(p)) for p in files}


def sweep(home: Path) -> None:
    """Remove what no version in use needs: half-written folders, versions before the last, segments of neither."""
    for kind in (VERSIONS, SEGMENTS):
        for path in (home / kind).glob(f"{BUILDING}-*"):
            shutil.rmtree(path, ignore_errors=True)
    if not exists(home):
        return
    version = current(home)
    names = {s.name for s in version.segments}
    for folder in sorted((home / VERSIONS).glob("v*")):
        if folder != version_folder(home, version.number):
            shutil.rmtree(folder, ignore_errors=True)
    for folder in (home / SEGMENTS).glob("*"):
        if folder.name not in names:
            shutil.rmtree(folder, ignore_errors=True)


def verify(home: Path) -> list[str]:
    """Every fault of the current version, as sentences: missing, shortened or changed files. Empty = sound."""
    version = current(home)
    faults = _faults(version_folder(home, version.number), version.files)
    for segment in version.segments:
        faults += _faults(home / SEGMENTS / segment.name, segment.files)
    return faults


def _faults(folder: Path, files: dict[str, FileInfo]) -> list[str]:
    faults = []
    for name, info in files.items():
        path = folder / name
        if not path.is_file():
            faults.append(f"{path}: missing")
        elif path.stat().st_size != info.bytes:
            faults.append(f"{path}: {path.stat().st_size} bytes, {info.bytes} were written")
        elif sha256_of(path) != info.sha256:
            faults.append(f"{path}: content differs from its sha256")
    return faults


def _force(path: Path) -> None:
    """Ask the system to put a file or folder on the disk now."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
