"""Work for the stage tests, in a module that another process can import."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from pathasst import dataset
from pathasst.core.errors import BadInput
from pathasst.core.records import Pair, Source
from pathasst.dataset import Dropped, Unit

UNITS = [Unit(f"{n:05d}", stamp="1") for n in range(12)]


def work(unit: Unit, seconds: float = 0.0) -> Iterator[Pair | Dropped]:
    """Five items a unit, one of them dropped."""
    for n in range(5):
        time.sleep(seconds)
        id_ = f"{unit.key}-{n}"
        yield Dropped(id_, "odd", "third item") if n == 3 else Pair(pair_id=id_, source=Source(article_id="a"), image=b"x" * 1000)


def failing(unit: Unit, bad: str) -> Iterator[Pair]:
    if unit.key == bad:
        raise BadInput("truncated XML")
    yield Pair(pair_id=unit.key, source=Source(article_id="a"))


def copied(unit: Unit) -> Iterator[Pair]:
    for path in unit.paths:
        yield from dataset.read(path, Pair)


def run(out: Path, units: list[Unit] = UNITS, workers: int = 1, runner: str = "native", seconds: float = 0.0) -> dataset.Manifest:
    """The stage of these tests."""
    slow = partial(work, seconds=seconds)
    return dataset.run_stage(
        out, stage="test", record=Pair, units=units, work=slow, workers=workers, runner=runner, progress=False
    )
