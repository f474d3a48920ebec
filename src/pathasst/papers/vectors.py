"""The store of made vectors, by content: what was embedded once is never embedded again. Knows texts' keys, no index.

Vectors come from the file shipped with the package (the embedded collection) and from the cache folder, one Parquet shard per
few hundred texts. A run killed while embedding loses at most one shard a worker: shards are written by `run_stage`, atomically.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pathasst.core import weights
from pathasst.core.files import fingerprint
from pathasst.dataset import Unit, run_stage
from pathasst.papers.embed import Embedder, join_text, key_of, to_bytes, version_of

SHIPPED = "papers-vectors"
FILE = "vectors.safetensors"
PER_SHARD = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Vector:
    """One text's vector: `key` is `embed.key_of(text)`, `codes` the `dim` signed bytes of `embed.to_bytes`."""

    key: int
    codes: bytes


class VectorStore:
    """All vectors of one embedder that are on this machine."""

    def __init__(self, embedder: str = "minilm", *, home: Path | None = None) -> None:
        """`home`: where made vectors are kept; default: the package's cache folder. Raises MissingWeights, BadSettings."""
        self.embedder = embedder
        self.version = version_of(embedder)
        slug = re.sub(r"[^A-Za-z0-9@.-]", "_", self.version)
        self.folder = (home or weights.cache_dir() / "papers" / "vectors") / slug
        self._keys, self._codes = self._load()

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, keys: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.int8]]:
        """Which keys have a vector, bool [n], and the codes of those that do, int8 [sum, dim], in the order of `keys`."""
        present = self.has(keys)
        return present, self._codes[np.searchsorted(self._keys, keys[present])]

    def has(self, keys: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which keys have a vector, bool [n]."""
        if not len(self._keys) or not len(keys):
            return np.zeros(len(keys), np.bool_)
        place = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        present: NDArray[np.bool_] = self._keys[place] == keys
        return present

    def make(
        self,
        sources: Sequence[tuple[Path, NDArray[np.int64], NDArray[np.int64]]],
        *,
        workers: int = 1,
        runner: str = "native",
        progress: bool = True,
    ) -> None:
        """Embed abstracts and keep their vectors: (Parquet file, rows, keys of their texts), rows of like length together.

        `workers` processes of one thread each (two keep two cores busier than one process of two threads), or a Ray cluster.
        Resumable: finished shards are never made again.
        """
        rows: dict[str, list[int]] = {}
        units = []
        for number, (path, numbers, keys) in enumerate(sources):
            for start in range(0, len(numbers), PER_SHARD):
                key = f"{number:05d}-{start:08d}"
                rows[key] = [int(r) for r in numbers[start : start + PER_SHARD]]
                units.append(Unit(key, [str(path)], fingerprint({"texts": keys[start : start + PER_SHARD].tolist()})))
        if not units:
            return
        run_stage(
            self.folder / fingerprint({"units": [u.stamp for u in units]}),
            stage="papers embed",
            record=Vector,
            units=units,
            work=_Embed(self.embedder, rows, one_thread=workers > 1 or runner == "ray"),
            settings={"embedder": self.version},
            workers=workers,
            runner=runner,
            progress=progress,
        )
        self._keys, self._codes = self._load()

    def _load(self) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
        """Every key, sorted, and its codes; never more in memory than the result and one shard."""
        shipped, shards = read_shipped(self.version), sorted(self.folder.glob("*/*.parquet"))
        parts = [pq.read_table(path, columns=["key"]).column("key").to_numpy() for path in shards]
        keys = np.unique(np.concatenate([*parts, shipped[0] if shipped else np.zeros(0, np.int64)]))
        codes = np.zeros((len(keys), 1), np.int8)
        for some, theirs in (*map(_shard, shards), *([shipped] if shipped else [])):  # the shipped ones win
            if len(some):
                if codes.shape[1] != theirs.shape[1]:
                    codes = np.zeros((len(keys), theirs.shape[1]), np.int8)
                codes[np.searchsorted(keys, some)] = theirs
        return keys, codes


def _shard(path: Path) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    table = pq.read_table(path)
    codes = b"".join(table.column("codes").to_pylist())
    return table.column("key").to_numpy(), np.frombuffer(codes, np.int8).reshape(table.num_rows, -1 if table.num_rows else 1)


@dataclass(frozen=True)
class _Embed:
    """The work of one shard; each process loads the model once."""

    embedder: str
    rows: dict[str, list[int]]
    one_thread: bool

    def __call__(self, unit: Unit) -> Iterator[Vector]:
        table = pq.read_table(unit.paths[0], columns=["title", "abstract"]).take(self.rows[unit.key])
        texts = [join_text(row["title"], row["abstract"]) for row in table.to_pylist()]
        for text, codes in zip(texts, to_bytes(_embedder(self.embedder, self.one_thread).documents(texts)), strict=True):
            yield Vector(key=key_of(text), codes=codes.tobytes())


_loaded: dict[str, Embedder] = {}


def _embedder(name: str, one_thread: bool) -> Embedder:
    if name not in _loaded:
        _loaded[name] = Embedder(name, threads=1 if one_thread else None)
    return _loaded[name]


def read_shipped(version: str) -> tuple[NDArray[np.int64], NDArray[np.int8]] | None:
    """(keys int64 [n], codes int8 [n, dim]) of the vectors that come with the package, if they are of this embedder."""
    from safetensors import safe_open

    if not weights.present(SHIPPED):
        return None
    with safe_open(weights.path(SHIPPED) / FILE, framework="numpy") as file:
        if (file.metadata() or {}).get("embedder") != version:
            return None
        return file.get_tensor("keys"), file.get_tensor("codes")
