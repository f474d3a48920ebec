"""PathVQA's public files → questions. Knows its two layouts; runs no pickle but plain lists, dicts, texts and numbers.

The authors' files are pickles of `[{image, question, answer}, …]`. Unpickling them as they are could run anything, so names of
classes and functions are refused: what is left are plain values.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pathasst.core.errors import BadDataset, BadInput

PICTURES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True, slots=True)
class PathVQAQuestion:
    """One question about a picture. Questions of one picture share `image`."""

    image: str
    question: str
    answer: str
    picture: Path | bytes

    def load(self) -> bytes:
        """The encoded picture. Raises BadInput when its file is gone."""
        if isinstance(self.picture, bytes):
            return self.picture
        try:
            return self.picture.read_bytes()
        except OSError as error:
            raise BadInput(f"{self.picture}: {error.strerror}") from error


class PlainUnpickler(pickle.Unpickler):
    """Reads pickles of plain values and refuses every other."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"the file wants to load {module}.{name}, which PathVQA's plain lists never need")

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("the file refers to things outside of itself")


def load_plain(content: bytes, name: str) -> Any:
    """The plain values in a pickle. Raises BadDataset, without running anything, for every other pickle."""
    try:
        return PlainUnpickler(io.BytesIO(content)).load()
    except (
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        IndexError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
    ) as error:
        raise BadDataset(f"{name} is no plain list of questions: {error}") from error


def questions(folder: Path, split: str = "test") -> tuple[list[PathVQAQuestion], int]:
    """The questions of a split, and how many were left out because their picture is missing.

    Raises BadDataset when the split's file is missing or holds something else.
    """
    parquet = sorted([*folder.rglob(f"{split}-*.parquet"), *folder.rglob(f"{split}.parquet")])
    rows = list(_of_parquet(parquet) if parquet else _of_pickle(folder, split))
    usable = [q for q in rows if isinstance(q.picture, bytes) or q.picture != Path()]
    if not usable:
        raise BadDataset(f"{folder}: none of the {len(rows)} questions of split {split} has its picture under images/.")
    return usable, len(rows) - len(usable)


def _of_pickle(folder: Path, split: str) -> Iterator[PathVQAQuestion]:
    path = next(iter(sorted(folder.rglob(f"{split}_qa.pkl"))), None)
    if path is None:
        raise BadDataset(f"{folder} has no {split}_qa.pkl and no {split}-*.parquet.")
    rows = load_plain(path.read_bytes(), path.name)
    files = {p.stem: p for p in folder.rglob("*") if p.suffix.lower() in PICTURES}
    if not isinstance(rows, list):
        raise BadDataset(f"{path.name} holds a {type(rows).__name__}, not a list of questions.")
    for n, row in enumerate(rows):
        try:
            image, question, answer = (str(row[k]) for k in ("image", "question", "answer"))
        except (TypeError, KeyError) as error:
            raise BadDataset(f"{path.name}, item {n}: expected image, question and answer, got {row!r:.80}") from error
        yield PathVQAQuestion(image, question, answer, files.get(Path(image).stem if "." in image else image, Path()))


def _of_parquet(paths: list[Path]) -> Iterator[PathVQAQuestion]:
    """The hub's form: the picture inside the row. Equal pictures share a name, their hash."""
    import pyarrow.parquet as pq

    from pathasst.evaluate.predictions import key_of

    for path in paths:
        for batch in pq.ParquetFile(path).iter_batches(256, columns=["image", "question", "answer"]):
            for row in batch.to_pylist():
                content = (row["image"] or {}).get("bytes") or b""
                name = key_of(content) if content else "missing"
                yield PathVQAQuestion(name, str(row["question"]), str(row["answer"]), content or Path())
