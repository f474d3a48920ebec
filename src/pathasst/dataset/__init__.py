"""Rows ↔ Parquet shards, with one manifest per stage. Knows `records` and no room.

`run_stage` is the one way a stage writes: a unit of input becomes one shard, written atomically with its counts beside it, so
that a run killed at any moment goes on where it stopped and ends with the same bytes. `read` streams the records back.
"""

from pathasst.dataset.describe import describe
from pathasst.dataset.export import to_llava, to_messages, to_webdataset
from pathasst.dataset.handle import Dataset, output_folder
from pathasst.dataset.manifest import Manifest, ShardStats
from pathasst.dataset.shards import count, read, schema_of, shard_paths, validate
from pathasst.dataset.stage import Dropped, Unit, run_stage, units_of_dataset, units_of_files

__all__ = [
    "Dataset",
    "Dropped",
    "Manifest",
    "ShardStats",
    "Unit",
    "count",
    "describe",
    "output_folder",
    "read",
    "run_stage",
    "schema_of",
    "shard_paths",
    "to_llava",
    "to_messages",
    "to_webdataset",
    "units_of_dataset",
    "units_of_files",
    "validate",
]
