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
    return decode_box(counts, height, width, (0, 0, width, height))


def decode_box(counts: str, height: int, width: int, box: tuple[int, int, int, int]) -> np.ndarray:
    """The part of the mask in `box` (x1 y1 x2 y2 px, within the picture), without making the whole: hundreds of small masks of a
    large picture take a moment. Raises BadInput when the counts do not fill height×width."""
    runs, (x1, y1, x2, y2) = _runs(counts, height, width), box
    ends = np.minimum(np.maximum(np.cumsum(runs), x1 * height), x2 * height)
    lengths = np.diff(ends, prepend=x1 * height)
    flat = np.repeat(np.arange(runs.size) % 2 == 1, lengths)
    return flat.reshape((height, x2 - x1), order="F")[y1:y2]


def area(counts: str) -> int:
    """px of the mask behind counts."""
    return sum(map(int, counts.split()[1::2]))


def _runs(counts: str, height: int, width: int) -> np.ndarray:
    try:
        runs = np.array([int(c) for c in counts.split()], np.int64)
    except ValueError as error:
        raise BadInput(f"run-length counts must be whole numbers: {error}") from error
    if runs.size == 0 or (runs < 0).any() or runs.sum() != height * width:
        raise BadInput(f"the run-length counts do not add up to {height}×{width} px")
    return runs
