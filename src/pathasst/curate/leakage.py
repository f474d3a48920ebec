"""Leakage: is a training pair a near-duplicate of something in an evaluation set?

Knows pictures and texts of evaluation sets. Three tests: perceptual hash in eight orientations, overlap of word runs, and, where
the caller gives an encoder, cosine of embeddings. What is found is reported, and left out on request.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pathasst.core.errors import BadInput, BadSettings
from pathasst.core.tables import read_table
from pathasst.curate.quality import HashIndex, orientations, phash, shingles
from pathasst.imaging.pictures import load

if TYPE_CHECKING:
    import numpy as np

PICTURES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")
TEXTS = ("caption", "text", "question", "abstract")
Encoder = Callable[[Sequence["np.ndarray"]], "np.ndarray"]


@dataclass(frozen=True, slots=True)
class Leak:
    """One finding: what it repeats, by which test, how alike (bits apart, share of word runs, cosine)."""

    name: str
    by: str  # hash | text | embedding
    score: float


@dataclass(slots=True)
class LeakIndex:
    """The evaluation sets, ready to be asked. Make it with `index_of`."""

    bits: int = 6
    min_overlap: float = 0.6  # of the runs of eight words; shorter captions must match whole
    min_cosine: float = 0.98
    encoder: Encoder | None = None
    hashes: HashIndex = field(init=False)
    runs: dict[tuple[str, ...], str] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    vectors: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.hashes = HashIndex(self.bits)

    def add_picture(self, picture: np.ndarray, name: str) -> None:
        """Put an evaluation picture (H×W×3 uint8 RGB) into the index, in its eight orientations."""
        for value in set(orientations(picture)):
            self.hashes.add(value, name)
        if self.encoder is not None:
            self.names.append(name)
            self.vectors.append(_unit(self.encoder([picture])[0]))

    def add_text(self, text: str, name: str) -> None:
        """Put an evaluation text into the index; texts under five words are too common to tell anything."""
        if len(text.split()) >= 5:
            for run in shingles(text):
                self.runs.setdefault(run, name)

    def check(self, picture: np.ndarray | None, text: str = "") -> list[Leak]:
        """Everything that a picture and its caption repeat, the picture's findings first."""
        import numpy as np

        leaks = []
        if picture is not None:
            near = self.hashes.find(phash(picture))
            if near:
                leaks.append(Leak(near[0], "hash", float(near[1])))
            if self.encoder is not None and self.vectors:
                cosines = np.stack(self.vectors) @ _unit(self.encoder([picture])[0])
                best = int(cosines.argmax())
                if cosines[best] >= self.min_cosine:
                    leaks.append(Leak(self.names[best], "embedding", round(float(cosines[best]), 4)))
        if text and self.runs:
            mine = shingles(text)
            hits = [self.runs[r] for r in mine if r in self.runs]
            if mine and len(hits) / len(mine) >= self.min_overlap:
                leaks.append(Leak(max(set(hits), key=hits.count), "text", round(len(hits) / len(mine), 4)))
        return leaks


def _unit(vector: np.ndarray) -> np.ndarray:
    import numpy as np

    return np.asarray(vector, np.float32) / max(float(np.linalg.norm(vector)), 1e-9)


def index_of(sources: Sequence[str | Path], *, bits: int = 6, encoder: Encoder | None = None, cosine: float = 0.98) -> LeakIndex:
    """The index of evaluation sets: folders of pictures, CSV files (image and, where there, caption, text or question), datasets.

    Raises BadSettings for a source that does not exist or holds nothing. A picture that cannot be read is passed over.
    """
    index = LeakIndex(bits=bits, encoder=encoder, min_cosine=cosine)
    for source in map(Path, sources):
        count = 0
        for content, text, name in _items(source):
            count += 1
            if text:
                index.add_text(text, name)
            if content:
                try:
                    index.add_picture(load(content), name)
                except BadInput:
                    continue
        if not count:
            raise BadSettings(f"{source} holds no pictures or texts to test leakage against.")
    return index


def require_sources(sources: Sequence[str | Path]) -> None:
    """Raises BadSettings for a source that does not exist or is of no kind that `index_of` reads, before any work is done."""
    for source in map(Path, sources):
        table = source.is_file() and source.suffix.lower() in (".csv", ".parquet")
        if not table and not source.is_dir():
            raise BadSettings(f"the evaluation set {source} is no folder of pictures, CSV file or dataset.")


def _items(source: Path) -> Iterator[tuple[bytes, str, str]]:
    """(encoded picture, text, name) of everything in an evaluation set."""
    if (source / "manifest.json").is_file() or source.suffix == ".parquet":
        from pathasst.core.records import Pair
        from pathasst.dataset import read

        for pair in read(source, Pair):
            yield pair.image, pair.original or pair.caption, pair.pair_id
    elif source.is_dir():
        for path in sorted(p for p in source.rglob("*") if p.suffix.lower() in PICTURES):
            yield path.read_bytes(), "", str(path.relative_to(source.parent))
    elif source.suffix.lower() == ".csv" and source.is_file():
        try:
            _, rows = read_table(source)
            for n, row in rows:
                path = source.parent / (row.get("image") or "-")
                text = next((row[k] for k in TEXTS if row.get(k)), "")
                yield path.read_bytes() if path.is_file() else b"", text, row.get("image") or f"{source.name}:{n}"
        except (OSError, csv.Error) as error:
            raise BadSettings(f"{source} cannot be read: {error}") from error
    else:
        raise BadSettings(f"{source} is no folder of pictures, CSV file or dataset.")
