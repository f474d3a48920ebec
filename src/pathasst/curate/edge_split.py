"""Where two pictures touch without a gutter: a straight step from edge to edge that neither picture's own texture has.

Knows pixel arrays. A step counts when it stands out of the steps beside it along all of its length, and when one of the two is a
photograph: the edges of charts, tables and heat maps run straight, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class SeamSettings:
    """Chosen on composed figures of the training pictures."""

    segments: int = 12  # pieces of the seam's length; three quarters of them must show the step
    rows: int = 8  # looked at in each
    reach: int = 10  # px on both sides that a step is compared with
    contrast: float = 1.15  # how many times as large as those
    step: float = 6.0  # grey levels, at least
    flat: float = 0.6  # share of neighbours of the same grey that a photograph may have
    light: float = 0.7  # share of paper
    most_light: float = 0.9  # the same of the other picture


def seam(region: np.ndarray, least: int, s: SeamSettings) -> tuple[int, float]:
    """The best column between two touching pictures of H×W×3 uint8 (the second one begins there), and its contrast.

    Both parts are `least` px wide at least; (0, 0.0) where none touch.
    """
    import cv2
    import numpy as np

    height, width = region.shape[:2]
    if width < 2 * least or height < least:
        return 0, 0.0
    pieces = min(s.segments, height // 8)
    places = np.linspace(1, height - 2, pieces * s.rows).astype(int)
    some = region[places]
    difference = cv2.absdiff(some[:, 1:], some[:, :-1]).max(axis=2)
    steps = np.median(difference.reshape(pieces, s.rows, width - 1), axis=1).astype(np.float32)
    wide, near = 2 * s.reach + 1, 5
    border = cv2.BORDER_REFLECT
    around = cv2.blur(steps, (wide, 1), borderType=border) * wide - cv2.blur(steps, (near, 1), borderType=border) * near
    contrast = np.quantile((steps + 1) / (around / (wide - near) + 3), 0.25, axis=0)
    contrast[np.quantile(steps, 0.25, axis=0) < s.step] = 0
    contrast[: least - 1] = contrast[width - least :] = 0
    best = int(contrast.argmax())
    if contrast[best] < s.contrast or not _are_pictures((some[:, :best], some[:, best + 2 :]), s):
        return 0, 0.0
    return best + 1, float(contrast[best])


def _are_pictures(parts: tuple[np.ndarray, np.ndarray], s: SeamSettings) -> bool:
    """Whether one part is a photograph, of continuous tone, and the other is no empty paper."""
    import cv2

    light, flat = [], []
    for part in parts:
        grey = cv2.cvtColor(part, cv2.COLOR_RGB2GRAY)
        flat.append(float((grey[:, 1:] == grey[:, :-1]).mean()))
        light.append(float((grey >= 235).mean()))
    photographs = [f <= s.flat and w <= s.light for f, w in zip(flat, light, strict=True)]
    return any(photographs) and max(light) <= s.most_light
