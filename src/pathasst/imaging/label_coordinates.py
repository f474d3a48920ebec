"""Where labels lie on the picture as shown, when drawn on its stored pixels or on another size. Knows no file's form."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from pathasst.imaging.pictures import Header

SAME_SHAPE = 0.01
"""How far the two scales of a picture that was resized may differ, relatively."""


def on_picture(points: ArrayLike, drawn_on: tuple[float, float] | None, header: Header) -> np.ndarray | None:
    """Points n×2 (x, y px) of a picture of the size `drawn_on` (width, height), as they lie on the picture as shown.

    A size with width and height exchanged is that of the stored pixels, before EXIF's orientation turns them; one of the same
    shape is that of the picture before it was resized. None for any other size: the labels are of another picture.
    """
    places = np.asarray(points, np.float64).reshape(-1, 2)
    if drawn_on is None or drawn_on == (header.width, header.height):
        return places
    width, height = drawn_on
    if not (width > 0 and height > 0):
        return places  # what states no size
    if header.orientation >= 5 and (height, width) == (header.width, header.height):
        x, y = places.T
        x, y = (height - y if header.orientation in (6, 7) else y), (width - x if header.orientation in (7, 8) else x)
        return np.stack([x, y], 1)
    across, down = header.width / width, header.height / height
    return places * (across, down) if abs(across - down) <= SAME_SHAPE * max(across, down) else None


def boxes_on_picture(boxes: ArrayLike, drawn_on: tuple[float, float] | None, header: Header) -> np.ndarray | None:
    """As `on_picture`, for boxes n×4 (x1 y1 x2 y2)."""
    corners = on_picture(np.asarray(boxes, np.float64).reshape(-1, 2), drawn_on, header)
    if corners is None:
        return None
    corners = corners.reshape(-1, 2, 2)
    if drawn_on is None or drawn_on == (header.width, header.height):
        return corners.reshape(-1, 4)  # one with its corners exchanged stays so, and is left out
    return np.concatenate([corners.min(1), corners.max(1)], 1)
