"""One object for a slide of any format: size, levels, scale, and any region at any scale. Knows no file format."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType

import numpy as np

from pathasst.core.errors import BadInput
from pathasst.imaging.pictures import MAX_PIXELS
from pathasst.imaging.resample import LINEAR, block_of, margin_of, resample
from pathasst.imaging.scales import Scale
from pathasst.imaging.slides.source import SlideSource

PRIVATE = ("label", "macro")
"""Pictures of the glass itself: they carry names and are given only when asked for."""
BLOCK = 4096
"""px a side that are read at once where a region must be made from a much finer level."""

NATIVE = 0.02
"""How far a level's scale may be from the one that tiles are asked at: slides at 40× have 0.24 to 0.26 µm per px, and no network
sees 2 % of size."""


@dataclass(frozen=True, slots=True)
class Level:
    """One resolution of the slide. `downsample`: px of the finest level per px of this one, x and y."""

    width: int
    height: int
    downsample: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a slide. `image` H×W×3 uint8 RGB; `um_per_px` of that image, None when the slide's scale is unknown."""

    image: np.ndarray
    um_per_px: float | None
    box: tuple[float, float, float, float]  # x, y, width, height in px of the slide's finest level
    notes: tuple[str, ...] = ()  # what a person should know of the reading: a scale not believed; each a clause


class Slide:
    """An open slide. Positions are px of the finest level, its upper left corner (0, 0). Close it, or use `with`."""

    def __init__(self, path: Path, source: SlideSource, scale: Scale) -> None:
        self.path, self.scale, self._source = path, scale, source
        self._errors: tuple[type[Exception], ...] = (*source.errors, OSError, ValueError, MemoryError)
        facts = source.facts
        self.size: tuple[int, int] = facts.sizes[0]
        self.levels = tuple(Level(*size, _downsample(self.size, size)) for size in facts.sizes)
        self.vendor, self.objective_power = facts.vendor, facts.objective_power

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def um_per_px(self) -> float | None:
        """Of the finest level."""
        return self.scale.um_per_px

    @property
    def properties(self) -> dict[str, str]:
        """What the file says of itself, as its format words it. May name the patient, the user or the scanner."""
        return dict(self._source.facts.properties)

    def pictures(self, private: bool = False) -> list[str]:
        """Names of the pictures beside the slide; `private` includes label and macro, which carry names."""
        return [name for name in self._source.facts.pictures if private or name not in PRIVATE]

    def picture(self, name: str, private: bool = False) -> np.ndarray:
        """One of `pictures` as H×W×3 uint8 RGB. Raises BadInput."""
        if name not in self.pictures(private):
            hidden = " It is there, but hidden: it may carry a name." if name in self.pictures(True) else ""
            raise BadInput(f"{self.name} has no picture {name!r} to show.{hidden}")
        try:
            return self._source.facts.pictures[name]()
        except self._errors as error:
            raise BadInput(f"{self.name}: its {name} cannot be read: {error}") from error

    def downsample(self, um_per_px: float) -> float:
        """px of the finest level per px at a scale. Raises BadInput when the slide's scale is unknown."""
        if self.um_per_px is None:
            raise BadInput(f"{self.name}: its scale is unknown ({self.scale.note or 'give it with --mpp'}).")
        return um_per_px / self.um_per_px

    def tile_downsample(self, um_per_px: float) -> float:
        """`downsample` for tiles: that of a level where one is nearer than NATIVE, whose px are then read as they are.

        Raises BadInput when the slide's scale is unknown.
        """
        wanted = self.downsample(um_per_px)
        levels = [sum(level.downsample) / 2 for level in self.levels]
        nearest = min(levels, key=lambda d: abs(math.log(d / wanted)))
        return nearest if abs(nearest / wanted - 1) <= NATIVE else wanted

    def level_for(self, downsample: float) -> int:
        """The number of the coarsest level that is no coarser than `downsample` px of the finest level per px."""
        return max(i for i, level in enumerate(self.levels) if i == 0 or max(level.downsample) <= downsample * (1 + 1e-3))

    def read(
        self,
        region: tuple[float, float, float, float] | None = None,
        um_per_px: float | None = None,
        *,
        downsample: float | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> Region:
        """The pixels of a region (x, y, width, height in px of the finest level; all without one) at a scale.

        The scale is `um_per_px`, or `downsample` px of the finest level per px; the finest level's own without both. The image
        has round(width / downsample) × round(height / downsample) px, and each of them lies where it should to half a px: the
        next finer level is read and resampled with an antialiasing filter, without rounding the region's corners. Where there
        is no level near, a finer one is read in blocks, so memory does not grow with the region.
        Raises BadInput for a region outside of the slide, one over `max_pixels`, an unknown scale or a damaged part.
        """
        x, y, width, height = region or (0, 0, *self.size)
        inside = min(x, y) >= -0.5 and x + width <= self.size[0] + 0.5 and y + height <= self.size[1] + 0.5
        if width <= 0 or height <= 0 or not inside:
            size_text = f"{self.size[0]}×{self.size[1]} px"
            raise BadInput(f"the region {(x, y, width, height)} does not lie within the slide {self.name} of {size_text}.")
        shrink = downsample or (1.0 if um_per_px is None else self.downsample(um_per_px))
        size = max(round(width / shrink), 1), max(round(height / shrink), 1)
        if size[0] * size[1] > max_pixels:
            raise BadInput(
                f"the region has {size[0]}×{size[1]} px at that scale, the limit is {max_pixels // 1_000_000} megapixels; ask "
                f"for a smaller region, or a coarser scale or level (this slide has {len(self.levels)})."
            )
        image = self._resampled((x, y, width, height), size)
        return Region(
            image,
            None if self.um_per_px is None else self.um_per_px * shrink,
            (x, y, width, height),
            (self.scale.note,) if self.scale.note else (),
        )

    def overview(self, side: int = 1024) -> Region:
        """The whole slide with its longer side at most `side` px."""
        return self.read(downsample=max(max(self.size) / side, 1.0))

    def read_level(self, level: int, box: tuple[int, int, int, int]) -> np.ndarray:
        """Pixels of one level as they are: `box` x, y, width, height in px of that level. Raises BadInput."""
        x, y, width, height = box
        try:
            return self._source.read(level, x, y, width, height)
        except self._errors as error:
            words = " ".join(str(error).split()) or type(error).__name__
            raise BadInput(f"{self.name} cannot be read at {box} of level {level}; it is damaged or cut off: {words}") from error

    def close(self) -> None:
        self._source.close()

    def __enter__(self) -> Slide:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _resampled(self, region: tuple[float, float, float, float], size: tuple[int, int]) -> np.ndarray:
        """`region` at `size` px from the coarsest level that is no coarser than asked for."""
        number = self.level_for(min(region[2] / size[0], region[3] / size[1]))
        level = self.levels[number]
        fx, fy = level.downsample
        left, top, width, height = region[0] / fx, region[1] / fy, region[2] / fx, region[3] / fy
        steps = math.ceil(height / BLOCK), math.ceil(width / BLOCK)
        if self._source.facts.in_rows:  # a part of a strip costs the whole strip
            steps = math.ceil(height * width / BLOCK**2), 1
        if steps == (1, 1):
            return self._window(number, left, top, width, height, size)
        image = np.empty((size[1], size[0], 3), np.uint8)
        rows = np.linspace(0, size[1], min(steps[0], size[1]) + 1).astype(int)
        columns = np.linspace(0, size[0], min(steps[1], size[0]) + 1).astype(int)
        for r1, r2 in pairwise(rows):
            for c1, c2 in pairwise(columns):
                part = left + c1 * width / size[0], top + r1 * height / size[1]
                extent = (c2 - c1) * width / size[0], (r2 - r1) * height / size[1]
                image[r1:r2, c1:c2] = self._window(number, *part, *extent, (int(c2 - c1), int(r2 - r1)))
        return image

    def _window(self, number: int, left: float, top: float, width: float, height: float, size: tuple[int, int]) -> np.ndarray:
        """A window of one level, its edges anywhere between px, at `size` px."""
        level = self.levels[number]
        edges = np.array([left, top, left + width, top + height])
        whole = np.round(edges)
        on_pixels = bool(np.abs(edges - whole).max() < 1e-3)
        factors = width / size[0], height / size[1]
        if on_pixels and all(abs(f - round(f)) < 1e-6 for f in factors) and (whole[2:] <= [level.width, level.height]).all():
            x1, y1, x2, y2 = (int(v) for v in whole)
            pixels = self.read_level(number, (x1, y1, x2 - x1, y2 - y1))
            if (pixels.shape[1], pixels.shape[0]) == size:
                return pixels
            import cv2

            return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))
        edges = whole if on_pixels else edges
        inner = on_pixels and min(factors) >= 1 and max(factors) <= LINEAR  # made from its own px alone
        margin, block = 0 if inner else margin_of(max(factors)), block_of(min(factors))
        x1, y1 = (max(math.floor(v) - margin, 0) // block * block for v in edges[:2])
        x2, y2 = min(math.ceil(edges[2]) + margin, level.width), min(math.ceil(edges[3]) + margin, level.height)
        x1, y1 = min(x1, level.width - 1), min(y1, level.height - 1)  # a level rounded down may lack the region's last px
        pixels = self.read_level(number, (x1, y1, max(x2 - x1, 1), max(y2 - y1, 1)))
        inside = np.clip(edges - [x1, y1, x1, y1], 0, [pixels.shape[1], pixels.shape[0]] * 2)
        return resample(pixels, (float(inside[0]), float(inside[1]), float(inside[2]), float(inside[3])), size)


def _downsample(finest: tuple[int, int], size: tuple[int, int]) -> tuple[float, float]:
    """A level's factors. Scanners halve and round: where a whole factor explains the size, it is the true one."""
    mean = (finest[0] / size[0] + finest[1] / size[1]) / 2
    near = round(mean)
    if all(s in (f // near, -(-f // near)) for f, s in zip(finest, size, strict=True)):
        return float(near), float(near)
    return finest[0] / size[0], finest[1] / size[1]
