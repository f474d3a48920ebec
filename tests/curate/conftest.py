"""Fixtures of the tests of `curate`; the pictures are drawn in `curate_samples`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "llm"))

from curate_samples import Rows

from pathasst.core.records import Figure
from pathasst.dataset import Unit, run_stage


@pytest.fixture
def figures_dataset(tmp_path) -> Callable[[dict[str, list[Figure]]], str]:
    """Writes figures into a dataset folder, one shard for each key, and returns its path."""

    def write(shards: dict[str, list[Figure]]) -> str:
        out = tmp_path / "figures"
        units = [Unit(k, [], str([f.figure_id for f in v])) for k, v in shards.items()]
        run_stage(out, stage="test", record=Figure, units=units, work=Rows(shards), progress=False)
        return str(out)

    return write
