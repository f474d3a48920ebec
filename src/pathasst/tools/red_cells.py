"""Which candidates count as red cells, by the picture's own scores. Knows boxes, no network.

A detector's scores fall with another laboratory's stain and camera, so that no one threshold serves. What is in doubt is so for a
reason that a box shows: it is cut by the picture's edge, lies over another cell, or is not of the size of the others. Such a box
must score nearly as high as the picture's best cells; one that lies free counts from half of that on.
"""

from __future__ import annotations

import numpy as np

from pathasst.nn.detector.boxes import Boxes

BEST = 0.9  # quantile of the scores of the candidates that the others are compared with
FREE, DOUBTFUL = 0.5, 0.85
"""Shares of the best cells' score from which a free box counts, and one that is cut, covered or of an odd size."""
LEAST, MOST = 0.4, 0.95
"""Shares between which a count lies in doubt: all that may be a cell, and those that are hardly in doubt."""
FLOOR = 0.25  # score of a candidate
SURE, ENOUGH = 0.5, 3
"""As many candidates must score so high for the picture's own scores to mean anything."""
CUT = 4.0  # px from the edge
COVERED, ON_WHITE = 0.15, 0.3  # shares of the smaller box that lie in a better one, and in a white cell
ODD = 0.35  # of the natural logarithm of a side against the median's


def counted(boxes: Boxes, red: int, white: int, shape: tuple[int, ...]) -> tuple[np.ndarray, tuple[int, int]] | None:
    """Mask [n] of the boxes that count as red cells, and between which numbers these may lie.

    `red` and `white`: numbers of the classes; `shape` of the picture. None where too few candidates are sure.
    """
    candidate = (boxes.classes == red) & (boxes.scores >= FLOOR)
    scores = boxes.scores[candidate]
    if (scores >= SURE).sum() < ENOUGH:
        return None
    best = float(np.quantile(scores, BEST))
    sides = boxes.xyxy[boxes.classes == white][boxes.scores[boxes.classes == white] >= SURE]
    free = _free(boxes.xyxy[candidate], scores, sides, shape)
    counts = scores >= best * np.where(free, FREE, DOUBTFUL)
    mask = np.zeros(len(boxes.scores), bool)
    mask[np.flatnonzero(candidate)[counts]] = True
    number = int(counts.sum())
    low, high = int((scores >= MOST * best).sum()), int((scores >= LEAST * best).sum())
    return mask, (min(low, number), max(high, number))


def _free(xyxy: np.ndarray, scores: np.ndarray, white: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Whether each box is whole, lies on no better one and on no white cell, and is of the size of the others."""
    height, width = shape[:2]
    uncut = (xyxy[:, :2] > CUT).all(1) & (xyxy[:, 2] < width - CUT) & (xyxy[:, 3] < height - CUT)
    sides = np.sqrt(np.prod(np.maximum(xyxy[:, 2:] - xyxy[:, :2], 1e-3), axis=1))
    usual = np.abs(np.log(sides / np.median(sides[scores >= SURE]))) < ODD
    better = scores[None] > scores[:, None]
    covered = (_shared(xyxy, xyxy) * better).max(1, initial=0)
    return uncut & usual & (covered < COVERED) & (_shared(xyxy, white).max(1, initial=0) < ON_WHITE)  # type: ignore[no-any-return]


def _shared(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """[n, m]: what each two boxes share, as a part of the smaller one."""
    corners = np.minimum(one[:, None, 2:], other[None, :, 2:]) - np.maximum(one[:, None, :2], other[None, :, :2])
    areas = [np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-3), axis=1) for boxes in (one, other)]
    return np.prod(np.clip(corners, 0, None), axis=2) / np.minimum(areas[0][:, None], areas[1][None])  # type: ignore[no-any-return]
