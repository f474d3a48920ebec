"""The vector side of the search: clustered and compressed in memory, refined from 8-bit vectors on disk. Knows no papers.

As in the paper (Paper Retrieval), the abstracts are clustered beforehand and a query visits only the nearest ones. Inside them
codes of one bit a value pick candidates, whose exact order comes from 8-bit vectors in a memory-mapped file. Rows are stored in
cluster order, so that what is read together lies together. Below `EXACT_BELOW` vectors everything is compared.

The codes are a product quantizer, 16 centroids for every four values, laid out for Faiss's fast scan; RaBitQ is the other choice.
"""

from __future__ import annotations

import itertools
import math
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pathasst.core.errors import BadDataset
from pathasst.core.hardware import has_fast_bfloat16
from pathasst.core.settings import Field, Settings
from pathasst.papers.embed import from_bytes

CODES, CLUSTERS = "codes.npy", "clusters.faiss"
EXACT_BELOW = 4096  # vectors; fewer are compared one by one in less than a millisecond
EXACT_ALLOWED = 20_000  # a filter that leaves fewer rows than this is searched exactly
BLOCK = 1 << 16  # rows decoded at a time
ASSIGNED = 4096  # rows compared with all centroids at a time
VALUES_A_CODE = 4  # values that share a number of 4 bits: one bit a value
SCANNED = 32  # codes that the fast scan compares at a time
TRAINED = 4096  # vectors that the code is fitted to
MAPPED = 4096  # rows read from the file before its pages are given back; each maps up to 64 KB, which count as this process's
REFINED = 192  # rows refined at a time; larger temporaries go back to the system each time, and cost five times as much


class ClusterSettings(Settings):
    """How vectors are clustered and compressed."""

    lists: int = Field(default=0, ge=0, description="Number of clusters. 0: √n.")
    code: Literal["pq", "rabitq"] = Field(default="pq", description="In memory: pq (product quantizer, fast scan) or rabitq.")
    sample: int = Field(default=64, ge=1, description="Training vectors a cluster.")
    rounds: int = Field(default=6, ge=1, description="Rounds of k-means.")
    seed: int = 0

    def lists_for(self, n: int) -> int:
        return min(self.lists or max(16, round(math.sqrt(n))), n)


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
    centroids = find_centroids(_sampled(codes, lists, settings), lists, settings)
    assigned = np.concatenate([nearest_centroids(vectors, centroids) for _, vectors in decoded(codes)])
    order = np.argsort(assigned, kind="stable")
    _write_sorted(codes, order, folder / CODES)
    _write_index(np.load(folder / CODES, mmap_mode="r"), assigned[order], centroids, folder / CLUSTERS, settings)
    return order


def find_centroids(vectors: NDArray[np.float32], lists: int, settings: ClusterSettings) -> NDArray[np.float32]:
    """Spherical k-means of unit vectors [n, d]: unit centroids [lists, d]."""
    import torch

    rng = np.random.default_rng(settings.seed)
    points = torch.from_numpy(vectors)
    centroids = points[torch.from_numpy(np.sort(rng.choice(len(points), lists, replace=False)))]
    for _ in range(settings.rounds):
        nearest = torch.from_numpy(nearest_centroids(vectors, centroids.numpy()))
        sums = torch.zeros_like(centroids).index_add_(0, nearest, points)
        empty = torch.bincount(nearest, minlength=lists) == 0
        sums[empty] = points[torch.from_numpy(rng.choice(len(points), int(empty.sum()), replace=False))]
        centroids = torch.nn.functional.normalize(sums, dim=1)
    return centroids.numpy()


def nearest_centroids(vectors: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.int64]:
    """The number of the nearest centroid of each vector, int64 [n], in bfloat16 where the CPU has it (four times as fast)."""
    import torch

    dtype = torch.bfloat16 if has_fast_bfloat16() else torch.float32
    across = torch.from_numpy(centroids).to(dtype).T.contiguous()
    parts = [(block.to(dtype) @ across).argmax(1) for block in torch.from_numpy(vectors).split(ASSIGNED)]
    return torch.cat(parts).numpy()


def _sampled(codes: NDArray[np.int8], lists: int, settings: ClusterSettings) -> NDArray[np.float32]:
    count = min(len(codes), lists * settings.sample)
    return from_bytes(np.asarray(codes[np.sort(np.random.default_rng(settings.seed).choice(len(codes), count, replace=False))]))


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
    parts = next(m for m in range(max(1, dim // VALUES_A_CODE), 0, -1) if dim % m == 0)
    name = f"PQ{parts}x4" if settings.code == "pq" else "RaBitQ"
    index: Any = faiss.index_factory(dim, f"IVF{len(centroids)},{name}", faiss.METRIC_INNER_PRODUCT)
    index.quantizer.add(centroids)
    sample = np.random.default_rng(settings.seed).choice(len(codes), min(len(codes), TRAINED), replace=False)
    vectors = from_bytes(np.asarray(codes[np.sort(sample)]))
    if settings.code == "pq":
        index.by_residual = False  # one table of products serves all clusters
        index.pq.train(vectors)
        index.is_trained = True
    else:
        index.train(vectors)
    for start, vectors in decoded(codes):
        ids = np.arange(start, start + len(vectors), dtype=np.int64)
        block = np.ascontiguousarray(assigned[start : start + len(vectors)])
        if settings.code == "pq":
            _add_pq(index, vectors, ids, block)
        else:
            index.add_core(len(vectors), faiss.swig_ptr(vectors), faiss.swig_ptr(ids), faiss.swig_ptr(block))
    fast: Any = faiss.IndexIVFPQFastScan(index, SCANNED) if settings.code == "pq" else index
    faiss.write_index(fast, str(path))


def _add_pq(index: Any, vectors: NDArray[np.float32], ids: NDArray[np.int64], assigned: NDArray[np.int64]) -> None:
    """Add rows that are sorted by cluster; Faiss's own `add` would look for the clusters again."""
    import faiss

    packed = index.pq.compute_codes(vectors)
    borders = np.flatnonzero(np.diff(assigned, prepend=-1, append=-1))
    for first, last in itertools.pairwise(borders):
        names, rows = ids[first:last], packed[first:last]
        index.invlists.add_entries(int(assigned[first]), len(rows), faiss.swig_ptr(names), faiss.swig_ptr(rows))
    index.ntotal += len(ids)


class Clusters:
    """An open set of vectors. Searching never changes it; threads may share it."""

    def __init__(self, folder: Path) -> None:
        """Raises BadDataset when the files are missing or damaged."""
        try:
            self.codes: NDArray[np.int8] = np.load(folder / CODES, mmap_mode="r")
            self._index = _read(folder / CLUSTERS) if (folder / CLUSTERS).is_file() else None
            self._mapped = 0
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
        200). `allowed`: bool [n], rows that may be found.
        """
        if allowed is not None and int(allowed.sum()) <= EXACT_ALLOWED:
            return self._refined(query, np.flatnonzero(allowed), k)
        if self._index is None:
            return self._refined(query, np.arange(len(self)), k)
        import faiss

        candidates = min(len(self), refine or max(200, 10 * k))
        settings = _parameters(self._index, min(probes, self.lists))
        if allowed is not None:
            settings.sel = faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))  # type: ignore[call-arg, arg-type]
        rows = self._index.search(query[None], candidates, params=settings)[1][0]
        return self._refined(query, rows[rows >= 0], k)

    def _refined(
        self, query: NDArray[np.float32], rows: NDArray[np.int64], k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        rows = np.sort(rows)  # read the file forwards
        cosines = np.concatenate(
            [from_bytes(self._read_rows(rows[i : i + REFINED])) @ query for i in range(0, len(rows), REFINED)]
            or [np.zeros(0, np.float32)]
        )
        best = np.lexsort((rows, -cosines))[:k]
        return rows[best], cosines[best]

    def _read_rows(self, rows: NDArray[np.int64]) -> NDArray[np.int8]:
        """A copy of some rows. The file stays in the system's cache, but no longer in this process than MAPPED rows."""
        rows_read = self.codes[rows]
        self._mapped += len(rows)  # threads may lose a count, no more
        if self._mapped > MAPPED and isinstance(self.codes.base, mmap.mmap):
            self._mapped = 0
            self.codes.base.madvise(mmap.MADV_DONTNEED)
        return rows_read


def _read(path: Path) -> Any:
    import faiss

    return faiss.read_index(str(path))


def _parameters(index: Any, probes: int) -> Any:
    import faiss

    kinds: Any = faiss  # its types leave out the arguments
    if isinstance(index, faiss.IndexIVFRaBitQ):
        # With queries in 8 bits a code costs a few popcounts; in floats (0) it is a hundred times slower and finds no more.
        return kinds.IVFRaBitQSearchParameters(nprobe=probes, qb=8)
    return kinds.SearchParametersIVF(nprobe=probes)
