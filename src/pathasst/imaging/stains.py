"""Colour deconvolution of haematoxylin and DAB (Ruifrok & Johnston 2001), and what can be read from it. Knows no cell.

Optical densities are log10, as pathology software states them (0.2, 0.4, 0.6 are QuPath's customary limits of weak, moderate and
strong DAB), against the picture's own white.
"""

from __future__ import annotations

import numpy as np

from pathasst.imaging.pictures import spread

_VECTORS = np.array([[0.650, 0.704, 0.286], [0.268, 0.570, 0.776], [0.7110, 0.4232, 0.5616]], np.float32)
STAINS = _VECTORS / np.linalg.norm(_VECTORS, axis=1, keepdims=True)
"""Rows: haematoxylin, DAB, and a third direction that takes what is neither; unit optical density in R, G, B."""
UNMIX = np.linalg.inv(STAINS).astype(np.float32)
HAEMATOXYLIN, DAB = 0, 1


def white_of(image: np.ndarray) -> np.ndarray:
    """The colour of the empty slide, 3 values: the brightest percentile of each channel, but never below 160.

    A field without empty glass would otherwise call its palest tissue white.
    """
    step = max(1, min(image.shape[:2]) // 512)
    return np.maximum(np.percentile(image[::step, ::step].reshape(-1, 3), 99, axis=0), 160).astype(np.float32)


def unmix(image: np.ndarray, white: np.ndarray | None = None) -> np.ndarray:
    """H×W×3 uint8 RGB → H×W×3 float32 optical densities (log10) of haematoxylin, DAB and the rest; negative ones are 0."""
    reference = white_of(image) if white is None else white
    density = -np.log10(np.clip(image.astype(np.float32) + 1, 1, None) / (reference + 1))
    return np.clip(density @ UNMIX, 0, None)  # type: ignore[no-any-return]


def looks_like_eosin(image: np.ndarray) -> bool:
    """Whether H×W×3 uint8 RGB looks like H&E: of its coloured pixels 40 % or more are pink or purple and next to none brown.

    Beside eosin nuclei are purple, by a counterstain alone they are blue: in the DAB-stained fields at hand (67) at most 19 % are
    pink or purple, in H&E cores, WSSS4LUAD and PanNuke (44) at least 58 %. Fat and empty patches of H&E are not recognised.
    """
    step = max(1, min(image.shape[:2]) // 400)
    small = image[::step, ::step]
    coloured, planes = spread(small) > 20, small.astype(np.int16)
    red, green, blue = planes[..., 0], planes[..., 1], planes[..., 2]
    purple, brown = coloured & (red - green > 10) & (blue - green > 10), (red - green > 20) & (blue < green)
    total = max(int(coloured.sum()), 1)
    return bool(purple.sum() / total >= 0.4 and brown.sum() / total < 0.05)
