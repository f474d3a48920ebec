"""What went in, what came out, and how: the manifest of a stage and the stats of each of its shards."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from pathasst.core.errors import BadDataset
from pathasst.core.files import write_atomic

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
            own = "Pictures with captions, or conversations, of your own are taken in by `pathasst dataset import"
            raise BadDataset(
                f"{folder} is no finished dataset: {MANIFEST} is missing. Run the stage that makes it (again). "
                f"{own} {folder} --out DATASET`."
            )
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValueError as error:
            raise BadDataset(f"{path} is damaged ({error}). Run the stage again: finished shards are kept.") from error

    def save(self, folder: Path) -> None:
        write_atomic(folder / MANIFEST, self.model_dump_json(indent=1).encode())
