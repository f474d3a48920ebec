"""A folder of pictures → embeddings, kept in a cache → the pictures that fit a text, as a list and a contact sheet.

Knows folders and PathCLIP. A file that was seen before, by name, size and time of change, is not read again: a second search is
instant, a folder that grew costs its new pictures, and a killed run goes on.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pathasst.clip.pictures import Report, embed, pictures_under
from pathasst.core.files import write_atomic

if TYPE_CHECKING:
    from pathasst.clip.model import DualEncoder

KEEP = 2048
"""Pictures after which the embeddings are kept."""


def embed_folder(
    clip: DualEncoder, folder: Path | str, cache: Path | None = None, report: Report | None = None
) -> tuple[list[Path], np.ndarray, int]:
    """Every picture under a folder → its path and unit embedding (float32 [n, d]); the third value counts unreadable files.

    `cache` is a folder for the embeddings (none: nothing is kept). Raises BadDataset when there are no pictures.
    """
    paths = pictures_under(Path(folder))
    stamps = [_stamp(p) for p in paths]
    key = hashlib.sha256(f"{clip.version} {Path(folder).resolve()}".encode()).hexdigest()
    file = cache / f"{key[:16]}.npz" if cache else None
    embedded = _read(file)
    missing = [n for n, stamp in enumerate(stamps) if stamp not in embedded]
    if report:
        report(len(paths) - len(missing))
    unreadable = np.full(clip.config.model["embed_dim"], np.nan, np.float32)
    for start in range(0, len(missing), KEEP):
        part = missing[start : start + KEEP]
        vectors, rows = embed(clip, [paths[n] for n in part], report)
        embedded |= {stamps[n]: unreadable for n in part}
        embedded |= {stamps[part[row]]: vector for row, vector in zip(rows, vectors, strict=True)}
        if file:
            _keep(file, {stamp: embedded[stamp] for stamp in stamps if stamp in embedded})
    matrix = np.stack([embedded[stamp] for stamp in stamps])
    good = np.isfinite(matrix[:, 0])
    return [path for path, fine in zip(paths, good, strict=True) if fine], matrix[good], int((~good).sum())


def _stamp(path: Path) -> str:
    about = path.stat()
    return f"{path.resolve()}:{about.st_size}:{about.st_mtime_ns}"


def _read(file: Path | None) -> dict[str, np.ndarray]:
    """Stamp of a file → its embedding; NaN where it cannot be read."""
    if file is None or not file.is_file():
        return {}
    with np.load(file, allow_pickle=False) as stored:
        return dict(zip(stored["stamps"].tolist(), stored["vectors"], strict=True))


def _keep(file: Path, embedded: dict[str, np.ndarray]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    np.savez(content, stamps=np.array(list(embedded)), vectors=np.stack(list(embedded.values())))
    write_atomic(file, content.getvalue())


def nearest(vectors: np.ndarray, query: np.ndarray, count: int) -> list[tuple[int, float]]:
    """Rows with the highest cosine to a unit vector, best first: (row, cosine)."""
    scores = vectors @ query
    best = np.argsort(-scores, kind="stable")[:count]
    return [(int(n), float(scores[n])) for n in best]
