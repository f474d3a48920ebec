"""A folder of pictures → embeddings, kept beside it → the pictures that fit a text, as a list and a contact sheet.

Knows folders and PathCLIP. Embeddings are cached by file name, size and time of change, so that a second search is instant.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pathasst.clip.zeroshot import PICTURES
from pathasst.errors import BadDataset

if TYPE_CHECKING:
    from pathasst.clip.model import PathCLIP


def embed_folder(
    clip: PathCLIP, folder: Path | str, cache: Path | None = None, report: Callable[[int, int], None] | None = None
) -> tuple[list[Path], np.ndarray, int]:
    """Every picture under a folder → its path and unit embedding (float32 [n, d]); the third value counts unreadable files.

    `cache` is a folder for the result (none: nothing is kept). Raises BadDataset when there are no pictures.
    """
    from PIL import Image

    folder = Path(folder)
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in PICTURES)
    if not paths:
        raise BadDataset(f"{folder} holds no pictures ({', '.join(PICTURES)}).")
    stamp = hashlib.sha256(clip.version.encode())
    for p in paths:
        stamp.update(f"{p}:{p.stat().st_size}:{p.stat().st_mtime_ns}".encode())
    kept = cache / f"{stamp.hexdigest()[:16]}.npz" if cache else None
    if kept and kept.is_file():
        with np.load(kept, allow_pickle=False) as stored:
            return [folder / n for n in stored["names"]], stored["vectors"], int(stored["unreadable"])
    good: list[Path] = []
    vectors = []
    for start in range(0, len(paths), 64):
        pictures = []
        for path in paths[start : start + 64]:
            try:
                with Image.open(path) as opened:
                    pictures.append(opened.convert("RGB"))
                good.append(path)
            except (OSError, ValueError, Image.DecompressionBombError):
                continue
        vectors.append(clip.encode_image(pictures))
        if report:
            report(min(start + 64, len(paths)), len(paths))
    stacked, unreadable = np.concatenate(vectors), len(paths) - len(good)
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        names = np.array([str(p.relative_to(folder)) for p in good])
        np.savez(kept, names=names, vectors=stacked, unreadable=unreadable)
    return good, stacked, unreadable


def nearest(vectors: np.ndarray, query: np.ndarray, count: int) -> list[tuple[int, float]]:
    """Rows with the highest cosine to a unit vector, best first: (row, cosine)."""
    scores = vectors @ query
    best = np.argsort(-scores, kind="stable")[:count]
    return [(int(n), float(scores[n])) for n in best]


def contact_sheet(hits: list[tuple[Path, float]], title: str, columns: int = 4, cell: int = 200) -> Any:
    """The hits as one PIL picture: thumbnails with rank, cosine and file name."""
    from PIL import Image, ImageDraw

    rows = -(-len(hits) // columns)
    sheet = Image.new("RGB", (columns * cell, 30 + rows * (cell + 30)), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((8, 8), title[: columns * cell // 7], fill="black")
    for n, (path, score) in enumerate(hits):
        left, top = (n % columns) * cell, 30 + (n // columns) * (cell + 30)
        with Image.open(path) as opened:
            thumb = opened.convert("RGB")
        thumb.thumbnail((cell - 8, cell - 8))
        sheet.paste(thumb, (left + 4, top))
        draw.text((left + 4, top + cell - 4), f"{n + 1}. {score:.3f} {path.name}"[: cell // 6], fill="black")
    return sheet
