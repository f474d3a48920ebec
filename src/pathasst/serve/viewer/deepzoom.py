"""A slide as Deep Zoom tiles, made when they are asked for and kept in memory up to a limit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable

import numpy as np
from cachetools import LRUCache

from pathasst.core.errors import BadInput
from pathasst.imaging.slides import Slide

TILE = 512
CACHE_BYTES = 96 * 2**20


def deepest(size: tuple[int, int]) -> int:
    """The number of the level that has the slide's finest px."""
    return (max(size) - 1).bit_length()


def tile_region(size: tuple[int, int], level: int, column: int, row: int) -> tuple[tuple[float, float, float, float], int]:
    """x, y, width, height in px of the finest level, and px of it per px of the level. Raises BadInput outside of the slide."""
    last = deepest(size)
    if not 0 <= level <= last or min(column, row) < 0:
        raise BadInput("there is no such tile.")
    shrink = 1 << (last - level)
    x, y = column * TILE * shrink, row * TILE * shrink
    if x >= size[0] or y >= size[1]:
        raise BadInput("there is no such tile.")
    return (x, y, min(TILE * shrink, size[0] - x), min(TILE * shrink, size[1] - y)), shrink


def tile_shape(region: tuple[float, float, float, float], shrink: int) -> tuple[int, int]:
    """Height and width of a tile's picture; Deep Zoom rounds up."""
    return -int(-region[3] // shrink), -int(-region[2] // shrink)


def read_tile(slide: Slide, level: int, column: int, row: int) -> np.ndarray:
    """H×W×3 uint8. Raises BadInput."""
    region, shrink = tile_region(slide.size, level, column, row)
    image = slide.read(region, downsample=shrink).image
    height, width = tile_shape(region, shrink)
    if image.shape[:2] != (height, width):
        image = np.pad(image, ((0, height - image.shape[0]), (0, width - image.shape[1]), (0, 0)), mode="edge")
    return image


class TileCache:
    """Encoded tiles, the least recently used thrown away beyond CACHE_BYTES. Safe for threads."""

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self._tiles: LRUCache[Hashable, bytes] = LRUCache(limit, getsizeof=len)
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], bytes]) -> bytes:
        """The tile of a key, made if it is not here."""
        with self._lock:
            if (tile := self._tiles.get(key)) is not None:
                return tile
        content = make()
        with self._lock:
            if len(content) <= self._tiles.maxsize:
                self._tiles[key] = content
        return content
