"""The abstracts themselves, in Arrow IPC in cluster order, memory-mapped. Knows rows and keys, no vectors and no words.

A search reads a few abstracts that lie near each other in the file; nothing is decoded before it is read, and nothing stays in
memory. Writing sorts the rows into cluster order through buckets on disk, so that it needs memory for one bucket only.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pathasst.core.errors import BadDataset
from pathasst.core.records import Abstract, arrow_schema, from_row
from pathasst.papers.filters import Filters

DOCUMENTS, KEYS, ROWS = "documents.arrow", "keys.npy", "rows.npy"
BATCH = 1024  # rows a record batch
BUCKET = 128 * BATCH  # rows sorted in memory at a time
FOREIGN = 1 << 63  # set in the keys of ids that are no PMIDs
SCHEMA = arrow_schema(Abstract).remove_metadata()


def key_of_id(id: str) -> int:
    """64 bits for an abstract's id: the PMID itself, a hash with the highest bit set for any other id."""
    if id.isascii() and id.isdecimal() and len(id) < 19 and not id.startswith("0"):
        return int(id)
    return int.from_bytes(hashlib.blake2b(id.encode("utf-8", "replace"), digest_size=8).digest(), "little") | FOREIGN


def write_documents(folder: Path, batches: Iterable[pa.RecordBatch], positions: NDArray[np.int64]) -> None:
    """Write `documents.arrow` with the key files. `positions[i]` is the row where the i-th incoming abstract belongs."""
    n = len(positions)
    keys = np.empty(n, np.uint64)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".buckets-") as scratch:
        buckets = _distribute(Path(scratch), batches, positions)
        with pa.OSFile(str(folder / DOCUMENTS), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
            row = 0
            for bucket in buckets:
                table = _sorted_bucket(bucket)
                for key in table.column("pmid").to_pylist():
                    keys[row] = key_of_id(key)
                    row += 1
                writer.write_table(table, max_chunksize=BATCH)
    order = np.argsort(keys, kind="stable")
    np.save(folder / KEYS, keys[order])
    np.save(folder / ROWS, order.astype(np.int64))


def _distribute(scratch: Path, batches: Iterable[pa.RecordBatch], positions: NDArray[np.int64]) -> list[Path]:
    """Every row into the file of its bucket, with its place in a column `_row`."""
    schema = SCHEMA.append(pa.field("_row", pa.int64()))
    paths = [scratch / f"{b:05d}" for b in range(-(-len(positions) // BUCKET))]
    writers = [pa.ipc.new_file(str(p), schema) for p in paths]
    start = 0
    for batch in batches:
        places = positions[start : start + len(batch)]
        start += len(batch)
        placed = batch.select(SCHEMA.names).append_column("_row", pa.array(places))
        bucket = places // BUCKET
        for b in np.unique(bucket):
            writers[b].write_batch(placed.filter(pa.array(bucket == b)))
    for writer in writers:
        writer.close()
    if start != len(positions):
        raise BadDataset(f"{start} abstracts came where {len(positions)} were announced.")
    return paths


def _sorted_bucket(path: Path) -> pa.Table:
    with pa.OSFile(str(path), "rb") as source:
        table = pa.ipc.open_file(source).read_all()
    table = table.take(pc.sort_indices(table, sort_keys=[("_row", "ascending")]))
    return table.drop_columns(["_row"]).combine_chunks()


class Documents:
    """An open file of abstracts."""

    def __init__(self, folder: Path) -> None:
        """Raises BadDataset when the files are missing or damaged."""
        try:
            self._reader = pa.ipc.open_file(pa.memory_map(str(folder / DOCUMENTS)))
            self._keys: NDArray[np.uint64] = np.load(folder / KEYS, mmap_mode="r")
            self._rows: NDArray[np.int64] = np.load(folder / ROWS, mmap_mode="r")
        except (OSError, ValueError, pa.ArrowException) as error:
            raise BadDataset(f"the abstracts in {folder} cannot be opened ({error}); build the papers again.") from error

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, row: int) -> Abstract:
        batch = self._reader.get_batch(row // BATCH)
        return from_row(Abstract, batch.slice(row % BATCH, 1).to_pylist()[0])

    def find(self, keys: Sequence[int]) -> NDArray[np.int64]:
        """The row of each key, -1 where there is none."""
        key_array = np.asarray(keys, dtype=np.uint64)
        if not len(self._keys) or not len(key_array):
            return np.full(len(key_array), -1, np.int64)
        place = np.minimum(np.searchsorted(self._keys, key_array), len(self._keys) - 1)
        return np.where(self._keys[place] == key_array, self._rows[place], -1)

    def key(self, row: int) -> int:
        return key_of_id(self._reader.get_batch(row // BATCH).column("pmid")[row % BATCH].as_py())

    def batches(self) -> Iterable[pa.RecordBatch]:
        """All abstracts, in the order of rows."""
        for number in range(self._reader.num_record_batches):
            yield self._reader.get_batch(number)

    def allowed(self, filters: Filters) -> NDArray[np.bool_]:
        """Which rows meet the filters, bool [n]."""
        parts = [_meets(batch, filters) for batch in self.batches()]
        return np.concatenate(parts) if parts else np.zeros(0, np.bool_)


def _meets(batch: pa.RecordBatch, filters: Filters) -> NDArray[np.bool_]:
    good = np.ones(len(batch), np.bool_)
    if not filters.retracted:
        good &= ~batch.column("retracted").to_numpy(zero_copy_only=False)
    if filters.since is not None or filters.until is not None:
        years = pc.utf8_slice_codeunits(batch.column("date"), 0, 4)
        has_year = pc.match_substring_regex(years, r"^[0-9]{4}$")
        number = pc.cast(pc.if_else(has_year, years, "0"), pa.int32()).to_numpy()
        good &= (number >= (filters.since or 1)) & (number <= (9999 if filters.until is None else filters.until))
    if filters.journals:
        # Python's casefold on both sides, as in the word index; journals repeat, so only the distinct ones are folded.
        good &= _named(batch.column("journal"), filters.journals)
    if filters.types:
        column = batch.column("types")
        hits = _named(column.flatten(), filters.types)
        good &= np.isin(np.arange(len(batch)), column.value_parent_indices().to_numpy()[hits])
    return good


def _named(column: pa.Array, names: Sequence[str]) -> NDArray[np.bool_]:
    folded = {name.casefold() for name in names}
    distinct = pc.dictionary_encode(column)
    fits = np.array([(value or "").casefold() in folded for value in distinct.dictionary.to_pylist()], np.bool_)
    return fits[distinct.indices.to_numpy()] if len(fits) else np.zeros(len(column), np.bool_)
