"""Files of abstracts → one dataset of them, and which of its rows are the living ones. Knows no vectors.

Each file, or part of a large one, is one unit of `run_stage`: a run goes on where it was stopped, and what has not changed is not
read again.
PubMed's files are applied in the order of their names: a later record of a PMID replaces the earlier one, and a deletion removes
what came before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pathasst.core.records import Abstract
from pathasst.dataset import Dropped, Manifest, Unit, run_stage, units_of_files
from pathasst.papers.documents import key_of_id
from pathasst.papers.medline import Deleted
from pathasst.papers.sources import parts_of, read_file

DELETED = "deleted by the publisher or NLM"


def ingest(files: Sequence[Path], out: Path, *, workers: int = 1, runner: str = "native", progress: bool = True) -> Manifest:
    """Read every file into the dataset `out`, in the order given. Bad records and files are counted in the manifest."""
    units, parts = [], {}
    stamped = zip(files, units_of_files(files, per_unit=1), parts_of(files), strict=True)
    for number, (file, unit, count) in enumerate(stamped):
        for part in range(count):
            key = f"{number:05d}-{_short(file)}" + (f"-{part:03d}" if count > 1 else "")
            units.append(Unit(key, unit.paths, f"{unit.stamp} {part}/{count}"))
            parts[key] = (part, count)
    return run_stage(
        out,
        stage="papers ingest",
        record=Abstract,
        units=units,
        work=_Read(parts),
        workers=workers,
        runner=runner,
        progress=progress,
    )


def _short(file: Path) -> str:
    return "".join(c if c.isalnum() else "_" for c in file.name.partition(".")[0])[:40]


@dataclass(frozen=True)
class _Read:
    """The work of one unit, a file or a part of one; a deletion is kept as a `Dropped` with the reason DELETED."""

    parts: dict[str, tuple[int, int]]

    def __call__(self, unit: Unit) -> Iterator[Abstract | Dropped]:
        for item in read_file(Path(unit.paths[0]), *self.parts[unit.key]):
            yield Dropped(item.pmid, DELETED) if isinstance(item, Deleted) else item


@dataclass(frozen=True, slots=True)
class Living:
    """The rows to be indexed: the newest record of each id, undeleted, with an abstract. All arrays have one entry a row."""

    paths: list[Path]  # the shards
    keys: NDArray[np.uint64]
    shards: NDArray[np.int32]  # index in `paths`; rows come in the order of (shard, row)
    rows: NDArray[np.int64]  # in the shard
    deleted: NDArray[np.uint64]  # ids that the files delete and do not bring back, for `add`
    empty: int  # how many of the newest records have no abstract

    def __len__(self) -> int:
        return len(self.keys)

    def batches(self, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The living abstracts, one batch a shard."""
        for number, path in enumerate(self.paths):
            rows = self.rows[self.shards == number]
            if len(rows):
                table = pq.read_table(path, columns=columns).take(pa.array(rows)).combine_chunks()
                yield from table.to_batches()


def living(folder: Path) -> Living:
    """Apply revisions and deletions to an ingested dataset. Raises BadDataset when it is not finished."""
    manifest = Manifest.load(folder)
    paths = [folder / s.shard for s in manifest.shards]
    keys, shards, rows, states = [], [], [], []  # states: 0 = no abstract, 1 = abstract, 2 = deletion
    for number, (path, stats) in enumerate(zip(paths, manifest.shards, strict=True)):
        table = pq.read_table(path, columns=["pmid", "abstract"])
        removed_keys = [key_of_id(d["id"]) for d in stats.drops if d["reason"] == DELETED]
        n = table.num_rows
        keys.append(np.array([*map(key_of_id, table.column("pmid").to_pylist()), *removed_keys], np.uint64))
        shards.append(np.full(n + len(removed_keys), number, np.int32))
        rows.append(np.concatenate([np.arange(n), np.full(len(removed_keys), -1)]))
        filled = pc.greater(pc.utf8_length(table.column("abstract")), 0).to_numpy()
        states.append(np.concatenate([filled.astype(np.int8), np.full(len(removed_keys), 2, np.int8)]))
    if not paths:
        nothing = np.zeros(0, np.uint64)
        return Living([], nothing, np.zeros(0, np.int32), np.zeros(0, np.int64), nothing, 0)
    key, shard, row, state = map(np.concatenate, (keys, shards, rows, states))
    newest = np.sort(_last_of_each(key))
    alive = newest[state[newest] == 1]
    deleted = np.sort(key[newest[state[newest] == 2]])
    return Living(paths, key[alive], shard[alive], row[alive], deleted, int((state[newest] == 0).sum()))


def _last_of_each(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The position of the last occurrence of each distinct key."""
    if not len(keys):  # files without a single record
        return np.zeros(0, np.int64)
    order = np.argsort(keys, kind="stable")
    last = np.append(keys[order][1:] != keys[order][:-1], True)
    return order[last]
