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
    kept = cache / f"{key[:16]}.npz" if cache else None
    known = _read(kept)
    missing = [n for n, stamp in enumerate(stamps) if stamp not in known]
    if report:
        report(len(paths) - len(missing))
    unreadable = np.full(clip.config.model["embed_dim"], np.nan, np.float32)
    for start in range(0, len(missing), KEEP):
        part = missing[start : start + KEEP]
        vectors, rows = embed(clip, [paths[n] for n in part], report)
        known |= {stamps[n]: unreadable for n in part}
        known |= {stamps[part[row]]: vector for row, vector in zip(rows, vectors, strict=True)}
        if kept:
            _keep(kept, {stamp: known[stamp] for stamp in stamps if stamp in known})
    found = np.stack([known[stamp] for stamp in stamps])
    good = np.isfinite(found[:, 0])
    return [path for path, fine in zip(paths, good, strict=True) if fine], found[good], int((~good).sum())


def _stamp(path: Path) -> str:
    about = path.stat()
    return f"{path.resolve()}:{about.st_size}:{about.st_mtime_ns}"


def _read(kept: Path | None) -> dict[str, np.ndarray]:
    """Stamp of a file → its embedding; NaN where it cannot be read."""
    if kept is None or not kept.is_file():
        return {}
    with np.load(kept, allow_pickle=False) as stored:
        return dict(zip(stored["stamps"].tolist(), stored["vectors"], strict=True))


def _keep(kept: Path, known: dict[str, np.ndarray]) -> None:
    kept.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    np.savez(content, stamps=np.array(list(known)), vectors=np.stack(list(known.values())))
    write_atomic(kept, content.getvalue())


def nearest(vectors: np.ndarray, query: np.ndarray, count: int) -> list[tuple[int, float]]:
    """Rows with the highest cosine to a unit vector, best first: (row, cosine)."""
    scores = vectors @ query
    best = np.argsort(-scores, kind="stable")[:count]
    return [(int(n), float(scores[n])) for n in best]
