"""Augmentation for microscopy, drawn from one generator so that a step's pictures depend on its seed alone.

Knows arrays, not datasets. Geometry: random square crop (scale), the eight flips and quarter turns. Colour: stain strength and
shift in haematoxylin–eosin–DAB space (Ruifrok and Johnston's matrix, as scikit-image has it), then brightness and contrast.
"""

from __future__ import annotations

import numpy as np

# Optical density of H, E and DAB in R, G, B.
RGB_FROM_HED = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]], np.float32)
HED_FROM_RGB = np.linalg.inv(RGB_FROM_HED).astype(np.float32)
_DENSITY = (-np.log((np.arange(256, dtype=np.float32) + 1) / 256)).astype(np.float32)  # uint8 → optical density

Box = tuple[float, float, float]
"""left, top and edge of a square crop, as shares of the picture's side."""


def random_box(rng: np.random.Generator, smallest: float) -> Box:
    """A square of `smallest` … 1 of the side, anywhere inside the picture."""
    edge = smallest + (1 - smallest) * rng.random()
    left, top = rng.random(2) * (1 - edge)
    return float(left), float(top), float(edge)


def cut(pixels: np.ndarray, box: Box, size: int) -> np.ndarray:
    """S×S×3 uint8 → size×size×3 uint8: the crop, bilinear."""
    from PIL import Image

    left, top, edge = (v * pixels.shape[0] for v in box)
    area = (left, top, left + edge, top + edge)
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR, box=area))


def turn(array: np.ndarray, pose: int) -> np.ndarray:
    """One of the eight poses of a square [s, s, …], picture or map: `pose` quarter turns, mirrored from 4 on."""
    turned = np.rot90(array, pose % 4)
    return turned[:, ::-1] if pose >= 4 else turned


def crop(pixels: np.ndarray, size: int, rng: np.random.Generator, smallest: float = 0.6) -> np.ndarray:
    """S×S×3 uint8 → size×size×3 uint8: a random square of `smallest` … 1 of the side, flipped and turned."""
    return turn(cut(pixels, random_box(rng, smallest), size), int(rng.integers(8)))


def stain_matrices(count: int, rng: np.random.Generator, strength: float = 0.25) -> tuple[np.ndarray, np.ndarray]:
    """Per picture a 3×3 matrix and a shift on optical density (float32 [n, 3, 3], [n, 1, 3]); strength 0 gives the identity."""
    scale = 1 + strength * rng.uniform(-1, 1, (count, 3)).astype(np.float32)
    matrix = np.einsum("ij,nj,jk->nik", HED_FROM_RGB, scale, RGB_FROM_HED)
    gain = 1 + strength * rng.uniform(-1, 1, (count, 1, 1)).astype(np.float32)
    tint = 0.3 * strength * rng.uniform(-1, 1, (count, 1, 3)).astype(np.float32)
    return (matrix * gain).astype(np.float32), tint


def recolour(pixels: np.ndarray, matrix: np.ndarray, tint: np.ndarray) -> np.ndarray:
    """uint8 [n, k, 3] (pixels of n pictures) → float32 [n, k, 3] in 0 … 1 with other stain strengths."""
    density = np.matmul(_DENSITY[pixels], matrix)
    density += tint
    np.maximum(density, 0, out=density)
    np.negative(density, out=density)
    return np.exp(density, out=density)
