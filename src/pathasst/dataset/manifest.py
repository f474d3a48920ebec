"""What went in, what came out, and how: the manifest of a stage and the stats of each of its shards."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from pathasst.errors import BadDataset

MANIFEST = "manifest.json"


class ShardStats(BaseModel):
    """The state of one finished shard; it lies beside the shard as `<shard>.json` and is the proof that it is whole."""

    model_config = ConfigDict(frozen=True)

    shard: str  # file name of the Parquet file
    unit: str  # key of the unit it was made from
    fingerprint: str  # of the unit's inputs and the stage's settings; another value means: make it again
    rows: int
    bytes: int
    sha256: str
    dropped: dict[str, int] = Field(default_factory=dict)  # reason → how many
    drops: list[dict[str, str]] = Field(default_factory=list)  # each dropped item: id, reason, detail
    failed: str = ""  # why the whole unit failed; the shard is then empty and the next run tries again


class Manifest(BaseModel):
    """One stage's record of itself, written once all its shards are there."""

    stage: str
    record: str  # name of the record type
    version: str  # of pathasst
    settings: dict[str, Any] = Field(default_factory=dict)
    inputs: list[str] = Field(default_factory=list)
    shards: list[ShardStats] = Field(default_factory=list)

    @property
    def rows(self) -> int:
        return sum(s.rows for s in self.shards)

    @property
    def dropped(self) -> Counter[str]:
        total: Counter[str] = Counter()
        for shard in self.shards:
            total.update(shard.dropped)
        return total

    @property
    def failures(self) -> list[ShardStats]:
        return [s for s in self.shards if s.failed]

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """Raises BadDataset when the folder holds no readable manifest."""
        path = folder / MANIFEST
        if not path.is_file():
            raise BadDataset(f"{folder} is no finished dataset: {MANIFEST} is missing. Run the stage that makes it (again).")
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValueError as error:
            raise BadDataset(f"{path} is damaged ({error}). Run the stage again: finished shards are kept.") from error

    def save(self, folder: Path) -> None:
        write_atomic(folder / MANIFEST, self.model_dump_json(indent=1).encode())


def fingerprint(parts: Mapping[str, Any]) -> str:
    """A short, stable hash of plain values."""
    text = json.dumps(parts, sort_keys=True, default=str, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def sha256_of(path: Path) -> str:
    """The sha256 of a file, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new and nothing between.

    Who may read it is as for any new file (`tempfile` would keep colleagues out of a shared folder).
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
