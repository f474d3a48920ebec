"""A slide as overlapping tiles at a scale, those with tissue alone, read ahead by threads. Knows no tool."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from pathasst.core.errors import BadInput
from pathasst.imaging.slides.slide import Region, Slide
from pathasst.imaging.slides.tissue import Tissue
from pathasst.imaging.tiles import plan


@dataclass(frozen=True, slots=True)
class SlideTile:
    """A window of a slide and its core, the part that it alone answers for; both x1 y1 x2 y2 in px of the finest level.

    `size`: width and height of its picture; `tissue`: share of the core that is tissue.
    """

    number: int
    window: tuple[float, float, float, float]
    core: tuple[float, float, float, float]
    size: tuple[int, int]
    tissue: float

    @property
    def region(self) -> tuple[float, float, float, float]:
        """The window as x, y, width, height, as `Slide.read` takes it."""
        x1, y1, x2, y2 = self.window
        return x1, y1, x2 - x1, y2 - y1

    def owns(self, points: np.ndarray) -> np.ndarray:
        """Which of n×2 points of the finest level lie in the core, whose left and upper edges belong to it; bool [n]."""
        x1, y1, x2, y2 = self.core
        return (points[:, 0] >= x1) & (points[:, 0] < x2) & (points[:, 1] >= y1) & (points[:, 1] < y2)  # type: ignore[no-any-return]


def tiles_of(
    slide: Slide, downsample: float, size: int, overlap: int = 0, tissue: Tissue | None = None, least: float = 0.02
) -> list[SlideTile]:
    """Tiles of `size` px at `downsample` px of the finest level per px, row by row; of those with `tissue` at least this share.

    Windows begin and end on whole px of the level that they are read from, so that reading resamples as little as can be: they
    are half a px of it away from where a grid of exact steps has them.
    Raises BadSettings when the overlap leaves no step.
    """
    width, height = max(round(slide.size[0] / downsample), 1), max(round(slide.size[1] / downsample), 1)
    grid = plan(height, width, size, overlap)
    factor = np.array([slide.size[0] / width, slide.size[1] / height] * 2)
    windows = _on_pixels(slide, downsample, np.array([(t.x, t.y, t.x + t.width, t.y + t.height) for t in grid]) * factor)
    cores = np.array([t.core for t in grid]) * factor
    shares = tissue.shares(cores) if tissue else np.ones(len(grid))
    keep = np.flatnonzero(shares >= max(least, 1e-9))
    return [
        SlideTile(int(i), tuple(windows[i].tolist()), tuple(cores[i].tolist()), (grid[i].width, grid[i].height), float(shares[i]))  # type: ignore[arg-type]
        for i in keep
    ]


def _on_pixels(slide: Slide, downsample: float, windows: np.ndarray) -> np.ndarray:
    """Windows float [n, 4] moved onto whole px of their level; those that span the slide stay."""
    step = slide.levels[slide.level_for(downsample)].downsample
    moved = windows.copy()
    for axis in (0, 1):
        start, end, length = windows[:, axis], windows[:, axis + 2], slide.size[axis]
        extent = np.round((end - start) / step[axis]) * step[axis]
        begin = np.minimum(np.round(start / step[axis]), np.floor((length - extent) / step[axis])) * step[axis]
        fits = (extent > 0) & (begin >= 0) & ((start > 0) | (end < length))
        moved[fits, axis], moved[fits, axis + 2] = begin[fits], (begin + extent)[fits]
    return moved


def read_ahead(
    slide: Slide, tiles: Sequence[SlideTile], threads: int = 2, ahead: int = 4
) -> Iterator[tuple[SlideTile, Region | BadInput]]:
    """Each tile with its picture, or with why it cannot be read; `threads` read the next `ahead` meanwhile."""
    waiting: deque[tuple[SlideTile, Future[Region | BadInput]]] = deque()
    with ThreadPoolExecutor(max(threads, 1)) as pool:
        for tile in tiles:
            waiting.append((tile, pool.submit(_read, slide, tile)))
            if len(waiting) > ahead:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()


def _read(slide: Slide, tile: SlideTile) -> Region | BadInput:
    x, y, width, height = tile.region
    try:
        region = slide.read((x, y, width, height), downsample=width / tile.size[0])
    except BadInput as error:
        return error
    return region
