"""Plain signs that a picture is no stained bright-field micrograph: it has no colour at all, or it is a chart with axes.

Knows pixel arrays. These rules stand beside the select model, which is small and has seen few pictures of each kind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

SIDE = 480  # px at which lines are looked for


def not_a_micrograph(picture: np.ndarray) -> str:
    """ "grey" (radiology, electron microscopy, gels), "chart" (axes on flat light ground), or "" for H×W×3 uint8 RGB."""
    import cv2
    import numpy as np

    scale = SIDE / max(picture.shape[:2])
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else picture
    red, green, blue = cv2.split(small)
    spread = cv2.max(cv2.max(red, green), blue) - cv2.min(cv2.min(red, green), blue)  # numpy's are slow
    if np.percentile(spread, 99.7) <= 12:
        return "grey"
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    framed = cv2.copyMakeBorder(grey, 12, 12, 12, 12, cv2.BORDER_CONSTANT, value=255)  # axes may lie on the very edge
    if (grey >= 240).mean() >= 0.35 and _lines(framed) and _lines(framed.T):
        return "chart"
    return ""


def _lines(grey: np.ndarray) -> bool:
    """Whether a thin straight dark line runs along a row for 30 % of the width, with light ground close on one side at least."""
    import cv2
    import numpy as np

    width = grey.shape[1]
    dark = (grey < 150).astype(np.uint8)
    runs = cv2.erode(dark, np.ones((1, max(8, int(0.3 * width))), np.uint8))
    long: np.ndarray = np.max(runs, axis=1) > 0
    light = (grey >= 225).mean(axis=1)
    height = len(long)
    for y in np.flatnonzero(long).tolist():
        beside = max(light[max(0, y - 5)], light[min(height - 1, y + 5)])
        thin = long[max(0, y - 9) : y + 10].sum() <= 5  # the edge of something solid goes on
        if 3 < y < height - 4 and thin and beside >= 0.3:
            return True
    return False
