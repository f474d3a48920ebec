"""Run-length encoding of masks, as COCO's uncompressed `counts`: column-major, starting with the zeros. Knows no model."""

from __future__ import annotations

import numpy as np

from pathasst.core.errors import BadInput


def encode(mask: np.ndarray, x: int = 0, y: int = 0, shape: tuple[int, int] | None = None) -> str:
    """An H×W boolean mask as counts, space-separated; or a part of one that lies at x, y of a picture of `shape`."""
    height, width = shape or mask.shape
    columns = np.zeros((height, mask.shape[1]), bool)
    columns[y : y + mask.shape[0]] = mask
    flat = np.concatenate([[False], columns.ravel(order="F"), [False]])
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + x * height
    counts = np.diff(np.concatenate([[0], changes, [height * width]]))
    return " ".join(map(str, counts if counts[-1] or len(counts) == 1 else counts[:-1]))


def decode(counts: str, height: int, width: int) -> np.ndarray:
    """The H×W boolean mask behind counts. Raises BadInput when they do not fill height×width."""
    try:
        runs = np.array([int(c) for c in counts.split()], np.int64)
    except ValueError as error:
        raise BadInput(f"run-length counts must be whole numbers: {error}") from error
    if runs.size == 0 or (runs < 0).any() or runs.sum() != height * width:
        raise BadInput(f"the run-length counts do not add up to {height}×{width} px")
    flat = np.repeat(np.arange(runs.size) % 2 == 1, runs)
    return flat.reshape((height, width), order="F")
