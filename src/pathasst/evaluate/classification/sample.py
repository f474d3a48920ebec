"""A labelled picture of a public set, wherever its pixels lie, and how a set is divided. Knows no layout and no model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from pathasst.core.errors import BadDataset, BadInput
from pathasst.imaging.pictures import load

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class ArrayRow:
    """One picture of an array file: HDF5 (`key` names the array) or .npy (`key` is empty); pictures are H×W×3, 0…255."""

    file: Path
    row: int
    key: str = ""

    def pixels(self) -> np.ndarray:
        """H×W×3 uint8 RGB. Raises BadInput."""
        try:
            values = np.asarray(_array(self.file, self.key)[self.row])
        except (OSError, ValueError, KeyError, IndexError) as error:
            raise BadInput(f"{self.file.name}, row {self.row}: {error}") from error
        if values.ndim != 3 or values.shape[2] != 3:
            raise BadInput(f"{self.file.name}, row {self.row}: expected a picture H×W×3, got {values.shape}.")
        return np.clip(values, 0, 255).astype(np.uint8)


@lru_cache(maxsize=8)
def _array(file: Path, key: str) -> Any:
    """An open array, read row by row: PatchCamelyon's training pictures are 7 GB."""
    if not key:
        return np.load(file, mmap_mode="r", allow_pickle=False)
    import h5py

    return h5py.File(file, "r")[key]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledPicture:
    """A picture with its class number; samples of one patient, slide or original share `cluster`."""

    id: str
    label: int
    cluster: str
    source: Path | bytes | ArrayRow
    split: str = ""  # train | val | test; empty: the set has no official split

    def pixels(self) -> np.ndarray:
        """H×W×3 uint8 RGB. Raises BadInput."""
        return self.source.pixels() if isinstance(self.source, ArrayRow) else load(self.source)


def divide(samples: Sequence[LabelledPicture], seed: int = 0, shares: Sequence[float] = (0.6, 0.2, 0.2)) -> list[LabelledPicture]:
    """The samples with train, val and test where no official split says otherwise; no cluster is cut through.

    A set without any split is divided by `shares`; one that has train and test gets a val of a fifth of train's clusters. One
    with test alone stays so: nothing can be trained on it.
    """
    present = {s.split for s in samples}
    if present == {""}:
        return [replace(s, split=SPLITS[n]) for s, n in zip(samples, _parts(samples, shares, seed), strict=True)]
    if "" in present:
        raise BadDataset(f"some samples have a split ({', '.join(sorted(present - {''}))}), others have none.")
    if "train" not in present or "val" in present:
        return list(samples)
    train = [s for s in samples if s.split == "train"]
    parts = iter(_parts(train, (0.8, 0.2), seed))
    return [replace(s, split=SPLITS[next(parts)]) if s.split == "train" else s for s in samples]


def _parts(samples: Sequence[LabelledPicture], shares: Sequence[float], seed: int) -> list[int]:
    """The part of each sample: whole clusters, by turns to the part that lacks most of the cluster's commonest class."""
    clusters: dict[str, list[LabelledPicture]] = {}
    for sample in samples:
        clusters.setdefault(sample.cluster, []).append(sample)
    names = sorted(clusters)
    Random(seed).shuffle(names)
    names.sort(key=lambda name: -len(clusters[name]))  # large clusters first, while every part still has room
    filled: dict[int, list[int]] = {}
    part_of = {}
    for name in names:
        labels = [s.label for s in clusters[name]]
        counts = filled.setdefault(max(set(labels), key=labels.count), [0] * len(shares))
        total = sum(counts) + len(labels)
        part = max(range(len(shares)), key=lambda p: shares[p] * total - counts[p])
        counts[part] += len(labels)
        part_of[name] = part
    return [part_of[s.cluster] for s in samples]


def hash_of(samples: Iterable[LabelledPicture]) -> str:
    """A hash of what was measured on: ids, labels, splits and the files' contents, 16 hex digits. Order does not matter."""
    total = hashlib.sha256()
    files: dict[Path, str] = {}
    for s in sorted(samples, key=lambda s: s.id):
        if isinstance(s.source, ArrayRow):
            content = f"{files.setdefault(s.source.file, _size(s.source.file))}:{s.source.row}"
        else:
            data = s.source if isinstance(s.source, bytes) else _bytes(s.source)
            content = hashlib.sha256(data).hexdigest()
        total.update(f"{s.id}\0{s.label}\0{s.split}\0{content}\n".encode())
    return total.hexdigest()[:16]


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _size(path: Path) -> str:
    """Array files are told apart by name and size: hashing 7 GB would take longer than measuring."""
    return f"{path.name}:{path.stat().st_size}" if path.is_file() else path.name
