"""What a file format must offer to be a slide: sizes of its levels, and pixels of a part of one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np


@dataclass(frozen=True, slots=True)
class SlideFacts:
    """What the file says of itself."""

    vendor: str
    sizes: tuple[tuple[int, int], ...]  # width, height of each level, finest first
    um_per_px: tuple[float, float] | None = None  # x, y of the finest level
    objective_power: float | None = None
    properties: dict[str, str] = field(default_factory=dict)
    in_rows: bool = False  # stored row by row, not in tiles
    pictures: dict[str, Callable[[], np.ndarray]] = field(default_factory=dict)  # label, macro, thumbnail …


class SlideSource(Protocol):
    """An open file. Reads may come from several threads at once."""

    facts: SlideFacts
    errors: tuple[type[Exception], ...]
    """What `read` may raise on a damaged part."""

    def read(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        """H×W×3 uint8 RGB of a part that lies within the level, in the level's px. What no scanner saw is white."""

    def close(self) -> None:
        """Close the file."""
