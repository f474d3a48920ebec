"""The vector side of the search: clustered and compressed in memory, refined from 8-bit vectors on disk. Knows no papers.

As in the paper (Paper Retrieval), the abstracts are clustered beforehand and a query visits only the nearest ones. Inside them
RaBitQ codes (one bit a dimension) pick candidates, whose exact order comes from 8-bit vectors in a memory-mapped file. Rows are
stored in cluster order, so that what is read together lies together. Below `EXACT_BELOW` vectors everything is compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pathasst.errors import BadDataset, BadSettings
from pathasst.papers.embed import from_bytes

if TYPE_CHECKING:
    pass

CODES, CLUSTERS = "codes.npy", "clusters.faiss"
EXACT_BELOW = 4096  # vectors; fewer are compared one by one in less than a millisecond
EXACT_ALLOWED = 20_000  # a filter that leaves fewer rows than this is searched exactly
BLOCK = 1 << 16  # rows decoded at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings:
    """How vectors are clustered and compressed."""

    lists: int = 0  # number of clusters; 0: 2·√n
    code: str = "RaBitQ"  # what is kept in memory, in Faiss's factory notation
    sample: int = 64  # training vectors a cluster
    rounds: int = 10  # of k-means
    seed: int = 0

    def __post_init__(self) -> None:
        if self.lists < 0 or self.sample < 1 or self.rounds < 1:
            raise BadSettings("clusters: lists must be 0 or more; sample and rounds 1 or more.")

    def lists_for(self, n: int) -> int:
        return min(self.lists or max(16, round(2 * math.sqrt(n))), n)


def build_clusters(codes: NDArray[np.int8], folder: Path, settings: ClusterSettings | None = None) -> NDArray[np.int64]:
    """Cluster `codes` (int8 [n, d], maybe memory-mapped) and write `codes.npy` and `clusters.faiss` in cluster order.

    Returns the order, int64 [n]: row i of the result is row order[i] of `codes`.
    """
    settings = settings or ClusterSettings()
    n = len(codes)
    if n < EXACT_BELOW:
        np.save(folder / CODES, np.ascontiguousarray(codes))
        return np.arange(n)
    lists = settings.lists_for(n)
    centroids = _centroids(codes, lists, settings)
    assigned = _assign(codes, centroids)
    order = np.argsort(assigned, kind="stable")
    _write_sorted(codes, order, folder / CODES)
    _write_index(np.load(folder / CODES, mmap_mode="r"), assigned[order], centroids, folder / CLUSTERS, settings)
    return order


def _centroids(codes: NDArray[np.int8], lists: int, settings: ClusterSettings) -> NDArray[np.float32]:
    import faiss

    n, dim = codes.shape
    count = min(n, lists * settings.sample)
    chosen = np.sort(np.random.default_rng(settings.seed).choice(n, count, replace=False))
    kmeans = faiss.Kmeans(
        dim,
        lists,
        niter=settings.rounds,
        seed=settings.seed,
        spherical=True,
        max_points_per_centroid=settings.sample,
        min_points_per_centroid=1,
    )
    kmeans.train(from_bytes(np.asarray(codes[chosen])))
    return np.ascontiguousarray(kmeans.centroids, dtype=np.float32)


def _assign(codes: NDArray[np.int8], centroids: NDArray[np.float32]) -> NDArray[np.int64]:
    import faiss

    quantizer = faiss.IndexFlatIP(centroids.shape[1])
    quantizer.add(centroids)
    assigned = np.empty(len(codes), np.int64)
    for start, vectors in decoded(codes):
        assigned[start : start + len(vectors)] = quantizer.search(vectors, 1)[1][:, 0]
    return assigned


def decoded(codes: NDArray[np.int8]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """(first row, float32 unit vectors) of block after block."""
    for start in range(0, len(codes), BLOCK):
        yield start, from_bytes(np.asarray(codes[start : start + BLOCK]))


def _write_sorted(codes: NDArray[np.int8], order: NDArray[np.int64], path: Path) -> None:
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.int8, shape=codes.shape)
    for start in range(0, len(order), BLOCK):
        out[start : start + BLOCK] = codes[order[start : start + BLOCK]]
    out.flush()


def _write_index(
    codes: NDArray[np.int8], assigned: NDArray[np.int64], centroids: NDArray[np.float32], path: Path, settings: ClusterSettings
) -> None:
    import faiss

    dim = codes.shape[1]
    index: Any = faiss.index_factory(dim, f"IVF{len(centroids)},{settings.code}", faiss.METRIC_INNER_PRODUCT)
    index.quantizer.add(centroids)
    sample = np.random.default_rng(settings.seed).choice(len(codes), min(len(codes), BLOCK), replace=False)
    index.train(from_bytes(np.asarray(codes[np.sort(sample)])))
    for start, vectors in decoded(codes):
        ids = np.arange(start, start + len(vectors), dtype=np.int64)
        block = np.ascontiguousarray(assigned[start : start + len(vectors)])
        index.add_core(len(vectors), faiss.swig_ptr(vectors), faiss.swig_ptr(ids), faiss.swig_ptr(block))
    faiss.write_index(index, str(path))


class Clusters:
    """An open set of vectors. Searching never changes it; threads may share it."""

    def __init__(self, folder: Path) -> None:
        """Raises BadDataset when the files are missing or damaged."""
        try:
            self.codes: NDArray[np.int8] = np.load(folder / CODES, mmap_mode="r")
            self._index = _read(folder / CLUSTERS) if (folder / CLUSTERS).is_file() else None
        except (OSError, ValueError, RuntimeError) as error:
            raise BadDataset(f"the vectors in {folder} cannot be opened ({error}); build the papers again.") from error

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def lists(self) -> int:
        """How many clusters there are; 0 when everything is compared."""
        return 0 if self._index is None else int(self._index.nlist)

    def search(
        self, query: NDArray[np.float32], k: int, *, probes: int = 64, refine: int = 0, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The `k` nearest rows and their cosines, best first, fewer when there are fewer.

        `query`: float32 [d], unit length. `probes`: clusters visited. `refine`: candidates compared exactly (0: 10·k, at least
        100). `allowed`: bool [n], rows that may be found.
        """
        if allowed is not None and int(allowed.sum()) <= EXACT_ALLOWED:
            return self._refined(query, np.flatnonzero(allowed), k)
        if self._index is None:
            return self._refined(query, np.arange(len(self)), k)
        import faiss

        wanted = min(len(self), refine or max(100, 10 * k))
        settings = _parameters(self._index, min(probes, self.lists))
        if allowed is not None:
            settings.sel = faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))  # type: ignore[call-arg, arg-type]
        rows = self._index.search(query[None], wanted, params=settings)[1][0]
        return self._refined(query, rows[rows >= 0], k)

    def _refined(
        self, query: NDArray[np.float32], rows: NDArray[np.int64], k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        rows = np.sort(rows)  # read the file forwards
        cosines = np.concatenate(
            [from_bytes(self.codes[rows[i : i + BLOCK]]) @ query for i in range(0, len(rows), BLOCK)] or [np.zeros(0, np.float32)]
        )
        best = np.lexsort((rows, -cosines))[:k]
        return rows[best], cosines[best]


def _read(path: Path) -> Any:
    import faiss

    return faiss.read_index(str(path))


def _parameters(index: Any, probes: int) -> Any:
    import faiss

    kind: Any = faiss.IVFRaBitQSearchParameters if isinstance(index, faiss.IndexIVFRaBitQ) else faiss.SearchParametersIVF
    return kind(nprobe=probes)
