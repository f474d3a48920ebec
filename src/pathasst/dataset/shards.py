"""Parquet shards of records: reading, counting, validating."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pathasst.core.errors import BadDataset
from pathasst.core.files import sha256_of
from pathasst.core.records import arrow_schema, from_row, to_row
from pathasst.dataset.manifest import Manifest

if TYPE_CHECKING:
    import pyarrow as pa

R = TypeVar("R")
BATCH_ROWS = 64  # rows carry pictures: small batches keep memory flat


def shard_paths(folder: Path | str) -> list[Path]:
    """The Parquet files of a finished dataset, in order. Raises BadDataset when it is not finished."""
    folder = Path(folder)
    return [folder / s.shard for s in Manifest.load(folder).shards]


def read(folder: Path | str, kind: type[R], columns: Sequence[str] | None = None) -> Iterator[R]:
    """Stream the records of a dataset folder, or of one `.parquet` file. `columns` leaves the others at their defaults.

    Raises BadDataset where a shard is missing or damaged; inside of a stage this costs the unit of that shard alone.
    """
    path = Path(folder)
    for shard in [path] if path.suffix == ".parquet" else shard_paths(path):
        for row in _rows(shard, columns):
            yield from_row(kind, row)


def _rows(shard: Path, columns: Sequence[str] | None) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(shard) as file:
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=list(columns) if columns else None):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise BadDataset(
            f"{shard} is missing or damaged ({error}). Remove it and run the stage that made it again: the other shards are kept."
        ) from error


def count(folder: Path | str) -> int:
    """How many rows a finished dataset has, from its manifest."""
    return Manifest.load(Path(folder)).rows


def schema_of(kind: type) -> pa.Schema:
    """The Parquet schema of a record type."""
    return arrow_schema(kind)


def write_parquet(path: Path, kind: type, records: Iterable[Any]) -> int:
    """Write records into one Parquet file (zstd) and return how many. The caller makes it atomic."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema, rows, row_count = arrow_schema(kind), [], 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for record in records:
            rows.append(to_row(record))
            if len(rows) == BATCH_ROWS:
                writer.write_table(pa.Table.from_pylist(rows, schema=schema))
                row_count += len(rows)
                rows = []
        if rows:
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
    return row_count + len(rows)


def validate(folder: Path | str, kind: type) -> list[str]:
    """Every fault of a dataset, as sentences: missing or changed shards, wrong counts or schema. Empty = sound."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder, faults = Path(folder), []
    manifest = Manifest.load(folder)
    if manifest.record != kind.__name__:
        raise BadDataset(f"{folder} holds {manifest.record} rows, not {kind.__name__} rows.")
    for stats in manifest.shards:
        path = folder / stats.shard
        if not path.is_file():
            faults.append(f"{stats.shard}: missing")
        elif sha256_of(path) != stats.sha256:
            faults.append(f"{stats.shard}: content differs from its sha256")
        else:
            try:
                with pq.ParquetFile(path) as file:
                    if file.metadata.num_rows != stats.rows:
                        faults.append(f"{stats.shard}: {file.metadata.num_rows} rows, manifest says {stats.rows}")
                    if not file.schema_arrow.equals(arrow_schema(kind)):
                        faults.append(f"{stats.shard}: schema is not that of {kind.__name__}")
            except pa.ArrowException as error:
                faults.append(f"{stats.shard}: unreadable ({error})")
        if stats.failed:
            faults.append(f"{stats.shard}: unit {stats.unit} failed: {stats.failed}")
    return faults
