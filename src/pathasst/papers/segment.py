"""A segment: some abstracts with their vectors, written once and never changed. Knows files, no versions.

Rows with a vector come first, in cluster order; rows whose vector is not made yet follow, and are found by words alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pathasst.core.records import Abstract
from pathasst.papers.clusters import CODES, Clusters, ClusterSettings, build_clusters
from pathasst.papers.documents import Documents, write_documents
from pathasst.papers.filters import Filters


def write_segment(
    folder: Path,
    batches: Iterable[pa.RecordBatch],
    has_vector: NDArray[np.bool_],
    codes: NDArray[np.int8],
    settings: ClusterSettings | None = None,
) -> None:
    """Write a segment into the empty `folder`. `known[i]`: the i-th abstract has a vector; `codes`: those vectors, in order."""
    positions = np.empty(len(has_vector), np.int64)
    with_vector = np.flatnonzero(has_vector)
    if len(with_vector):
        order = build_clusters(codes, folder, settings)
        positions[with_vector[order]] = np.arange(len(order))
    positions[~has_vector] = np.arange(len(with_vector), len(has_vector))
    write_documents(folder, batches, positions)


class IndexSegment:
    """An open segment, with the rows that a version says are deleted."""

    def __init__(self, folder: Path, deleted: NDArray[np.int64] | None = None) -> None:
        """Raises BadDataset when files are missing or damaged."""
        self.folder = folder
        self.documents = Documents(folder)
        self.clusters = Clusters(folder) if (folder / CODES).is_file() else None
        self.deleted = np.zeros(0, np.int64) if deleted is None else deleted
        self._masks: dict[Filters, NDArray[np.bool_] | None] = {}

    def __len__(self) -> int:
        return len(self.documents)

    @property
    def vectors(self) -> int:
        return 0 if self.clusters is None else len(self.clusters)

    def live(self) -> NDArray[np.bool_]:
        """Which rows are not deleted, bool [n]."""
        mask = np.ones(len(self), np.bool_)
        mask[self.deleted] = False
        return mask

    def find(self, keys: Iterable[int]) -> NDArray[np.int64]:
        """The live row of each key, -1 where there is none."""
        rows = self.documents.find(list(keys))
        return np.where(np.isin(rows, self.deleted), -1, rows)

    def nearest(self, query: NDArray[np.float32], k: int, filters: Filters, probes: int) -> list[tuple[int, float, int]]:
        """The best (key, cosine, row), best first, deleted rows and rows outside the filters left out."""
        if self.clusters is None:
            return []
        rows, cosines = self.clusters.search(query, k, probes=probes, allowed=self._mask(filters))
        return [(self.documents.key(int(r)), float(c), int(r)) for r, c in zip(rows, cosines, strict=True)]

    def years(self) -> dict[int, int]:
        """Year → live abstracts of it; those without a year are left out."""
        live, counts, start = self.live(), Counter[str](), 0
        for batch in self.documents.batches():
            dates = batch.column("date").to_pylist()
            counts.update(d[:4] for d, alive in zip(dates, live[start : start + len(dates)], strict=True) if alive and d)
            start += len(dates)
        return {int(year): n for year, n in counts.items() if year.isdecimal() and len(year) == 4}

    def abstract(self, row: int) -> Abstract:
        return self.documents[row]

    def _mask(self, filters: Filters) -> NDArray[np.bool_] | None:
        """Rows with a vector that may be found; None when all may. The last few filters are remembered."""
        if filters not in self._masks:
            if len(self._masks) >= 8:
                self._masks.clear()
            mask = None if filters.empty and not len(self.deleted) else self.live()
            if mask is not None and not filters.empty:
                mask &= self.documents.allowed(filters)
            self._masks[filters] = None if mask is None else mask[: self.vectors]
        return self._masks[filters]
