"""Pictures decoded once to small squares: in memory, or in a file that the processes of a run map and a killed run finds again.

Knows encoded pictures and their hashes. 196 kB a picture at 256 px: the 207,000 of PathCap are 40 GB, which eight processes of a
machine share when they lie in a file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np

from pathasst.clip.model import to_square
from pathasst.core.errors import BadInput
from pathasst.core.files import write_atomic
from pathasst.imaging.pictures import load

CHUNK, KEEP = 64, 64  # pictures decoded at once; chunks after which the file's index is written


def load_pixels(pictures: Iterable[tuple[str, bytes]], size: int, file: Path | None = None) -> dict[str, np.ndarray]:
    """(MD5, encoded picture), each MD5 once → MD5 to S×S×3 uint8: shorter side to `size`, centre crop.

    What cannot be read is not in the result. With `file` the squares lie there, beside an index `.json`; those that are there
    already are not decoded again.
    """
    if file is None:
        return {md5: square for md5, square in _decoded(pictures, size) if square is not None}
    index, row = file.with_suffix(".json"), size * size * 3
    readable, broken = _read(index, size)
    if not file.is_file() or file.stat().st_size < len(readable) * row:
        readable, broken = [], []
    cached = {*readable, *broken}
    with file.open("r+b" if readable else "wb") as out:
        out.truncate(len(readable) * row)  # of squares that came after the index was written, before a kill
        out.seek(len(readable) * row)
        new = (p for p in pictures if p[0] not in cached)
        for number, (md5, square) in enumerate(_decoded(new, size), 1):
            (broken if square is None else readable).append(md5)
            if square is not None:
                out.write(square.tobytes())
            if number % (CHUNK * KEEP) == 0:
                out.flush()
                _write(index, size, readable, broken)
    if len(readable) + len(broken) > len(cached):
        _write(index, size, readable, broken)
    if not readable:
        return {}
    mapped = np.memmap(file, np.uint8, "r", shape=(len(readable), size, size, 3))
    return {md5: mapped[n] for n, md5 in enumerate(readable)}


def forget(file: Path) -> None:
    """Remove what `load_pixels` wrote."""
    file.unlink(missing_ok=True)
    file.with_suffix(".json").unlink(missing_ok=True)


def _decoded(pictures: Iterable[tuple[str, bytes]], size: int) -> Iterator[tuple[str, np.ndarray | None]]:
    pictures = iter(pictures)
    with ThreadPoolExecutor() as pool:
        while chunk := list(islice(pictures, CHUNK)):
            yield from zip((md5 for md5, _ in chunk), pool.map(lambda p: _square(p[1], size), chunk), strict=True)


def _square(content: bytes, size: int) -> np.ndarray | None:
    try:
        return np.asarray(to_square(load(content), size))
    except BadInput:
        return None


def _read(index: Path, size: int) -> tuple[list[str], list[str]]:
    """MD5s of the file's squares in order, and of what cannot be read; none for squares of another size."""
    if not index.is_file():
        return [], []
    stored = json.loads(index.read_text(encoding="utf-8"))
    return (stored["kept"], stored["broken"]) if stored["size"] == size else ([], [])


def _write(index: Path, size: int, readable: list[str], broken: list[str]) -> None:
    write_atomic(index, json.dumps({"size": size, "kept": readable, "broken": broken}).encode())
