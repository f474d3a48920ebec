"""A finished dataset as Python values: what the public functions give back and take."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Generic, TypeVar

from pathasst.core.errors import BadDataset
from pathasst.dataset.manifest import Manifest, ShardStats
from pathasst.dataset.shards import read

R = TypeVar("R")


class Dataset(Generic[R]):
    """A finished dataset folder: iterates its records, says how many there are and what was left out.

    >>> figures = pathasst.collect("articles/")
    >>> figures.rows, figures.dropped
    >>> for figure in figures: print(figure.label, figure.caption)

    Raises BadDataset when the folder is no finished dataset, or holds another kind of record.
    """

    def __init__(self, folder: Path | str, kind: type[R]) -> None:
        self.folder, self.kind = Path(folder), kind
        if self.manifest.record != kind.__name__:
            raise BadDataset(f"{folder} holds {self.manifest.record} rows, not {kind.__name__} rows.")

    @cached_property
    def manifest(self) -> Manifest:
        """The stage's record of itself: settings, inputs, shards."""
        return Manifest.load(self.folder)

    @property
    def rows(self) -> int:
        """How many records there are."""
        return self.manifest.rows

    @property
    def dropped(self) -> Counter[str]:
        """What was left out: reason → how many."""
        return self.manifest.dropped

    @property
    def failures(self) -> list[ShardStats]:
        """Units that failed as a whole; the same call tries them again."""
        return self.manifest.failures

    def head(self, count: int = 5) -> list[R]:
        """The first records."""
        return list(islice(self, count))

    def __iter__(self) -> Iterator[R]:
        return read(self.folder, self.kind)

    def __len__(self) -> int:
        return self.rows

    def __fspath__(self) -> str:
        return str(self.folder)

    def __repr__(self) -> str:
        left_out = ", ".join(f"{n} {reason}" for reason, n in self.dropped.most_common()) or "nothing"
        return f"<{self.rows} {self.kind.__name__} rows in {self.folder}; left out: {left_out}>"


def output_folder(out: Path | str | None) -> Path:
    """The folder of a dataset; without one, a temporary folder that is removed when Python ends."""
    if out is not None:
        return Path(out)
    folder = tempfile.mkdtemp(prefix="pathasst-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
