"""A space of pictures in which cases are compared: features of EfficientNet-Lite0 at every depth, whitened.

Knows no pathology. Principal components of some hundred pictures, each of variance 1: on unseen cases of the Histopathology Atlas
neighbours in it share organ and category more often than neighbours by PathCLIP or by colour (docs/measured/clip.md).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from pathasst.core.errors import BadDataset
from pathasst.nn.components import principal, standardise
from pathasst.nn.multiscale import WIDTHS, pooled

if TYPE_CHECKING:
    from PIL.Image import Image

NETWORK = "efficientnet-lite0"
WIDE = 2 * sum(WIDTHS)  # means and deviations of all depths
COMPONENTS = 64
LEAST_PICTURES = 500  # fewer do not say which directions matter


@dataclass(frozen=True, slots=True)
class Space:
    """`mean`, `deviation` float32 [4128] of the features; `components` float32 [k, 4128]."""

    mean: np.ndarray
    deviation: np.ndarray
    components: np.ndarray

    @classmethod
    def fit(cls, features: np.ndarray, components: int = COMPONENTS) -> Space:
        """Of the features [n, ≥ 4128] of pictures (`nn.multiscale.pooled`). Raises BadDataset for fewer than 500 of these."""
        if len(features) < LEAST_PICTURES:
            raise BadDataset(f"a space is fitted on {LEAST_PICTURES} pictures or more, not on {len(features)}.")
        wide: np.ndarray = features[:, :WIDE].astype(np.float32)
        mean, deviation, normal = standardise(wide)
        directions, variances = principal(normal, components)
        return cls(mean, deviation, directions / np.sqrt(variances)[:, None])

    def project(self, features: np.ndarray) -> np.ndarray:
        """Features [n, ≥ 4128] → float32 [n, k], unit rows."""
        normal = (features[:, :WIDE].astype(np.float32) - self.mean) / self.deviation
        return unit_rows(normal @ self.components.T)

    def encode_image(self, images: Iterable[Image | np.ndarray], batch: int = 32) -> np.ndarray:
        """Pictures → float32 [n, k], unit rows. Raises MissingWeights."""
        parts, images = [np.zeros((0, len(self.components)), np.float32)], iter(images)
        while some := [np.asarray(i) for i in islice(images, batch)]:
            parts.append(self.project(pooled(some)))
        return np.concatenate(parts)

    def fingerprint(self) -> str:
        """A hash of the space: vectors of another one mean nothing here."""
        parts = (self.mean, self.deviation, self.components)
        return hashlib.sha256(b"".join(p.astype(np.float16).tobytes() for p in parts)).hexdigest()

    def tensors(self) -> dict[str, np.ndarray]:
        """What is stored, in half precision."""
        return {name: np.ascontiguousarray(getattr(self, name), dtype=np.float16) for name in ("mean", "deviation", "components")}

    @classmethod
    def of(cls, tensors: dict[str, np.ndarray]) -> Space:
        """From what `tensors` gave. Raises KeyError."""
        return cls(*(tensors[name].astype(np.float32) for name in ("mean", "deviation", "components")))


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 1."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)  # type: ignore[no-any-return]
