"""Picture files → embeddings, the next ones read while these are seen. What cannot be read costs that picture alone.

Knows files and PathCLIP.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pathasst.clip.model import BATCH
from pathasst.core.errors import BadDataset, BadInput
from pathasst.imaging.pictures import SUFFIXES, load

if TYPE_CHECKING:
    from pathasst.clip.atlas import PictureEncoder

Report = Callable[[int], None]
"""Gets the number of pictures that are done since it was last called."""


def pictures_under(folder: Path) -> list[Path]:
    """The picture files of a folder and its sub-folders, by name. Raises BadDataset when there are none."""
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not paths:
        raise BadDataset(f"{folder} holds no pictures ({', '.join(SUFFIXES)}).")
    return paths


def embed(clip: PictureEncoder, sources: Sequence[Path | bytes], report: Report | None = None) -> tuple[np.ndarray, list[int]]:
    """Unit embeddings float32 [n, d] of the pictures that can be read, and which of `sources` these are."""
    rows: list[int] = []
    vectors = [clip.encode_image([])]
    starts = range(0, len(sources), BATCH)
    with ThreadPoolExecutor(2) as pool:
        ahead = pool.map(_try, sources[:BATCH])
        for start in starts:
            here, ahead = list(ahead), pool.map(_try, sources[start + BATCH : start + 2 * BATCH])
            rows += [start + n for n, picture in enumerate(here) if picture is not None]
            vectors.append(clip.encode_image(p for p in here if p is not None))
            if report:
                report(len(here))
    return np.concatenate(vectors), rows


def _try(source: Path | bytes) -> np.ndarray | None:
    try:
        return load(source)
    except BadInput:
        return None
