"""Run-length encoding of masks, as COCO's uncompressed `counts`: column-major, starting with the zeros. Knows no model."""

from __future__ import annotations

import numpy as np

from pathasst.errors import BadInput


def encode(mask: np.ndarray) -> str:
    """An H×W boolean mask as counts, space-separated."""
    flat = np.asarray(mask, bool).ravel(order="F")
    if not flat.size:
        return "0"
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate([[0], edges, [flat.size]]))
    return " ".join(map(str, ([0] if flat[0] else []) + counts.tolist()))


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
