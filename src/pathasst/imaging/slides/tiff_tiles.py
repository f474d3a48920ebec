"""The tiles of one TIFF picture, decoded as they are asked for; those last used stay in memory. Knows tifffile's pages, no slide.

Straight from the file to the decoder: OpenSlide paints every tile through Cairo, and zarr asks for each in an event loop. The
same pixels take a quarter of their time (`benchmarks/slides_tiles.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cachetools import LRUCache

CACHE_BYTES = 32 * 2**20
PLAIN = (1, 5, 7, 8, 32946)
"""Compressions that every decoder decodes alike: none, LZW, JPEG, Deflate."""


class DecodedTiles:
    """Decoded tiles of all pictures of a file, the least recently used thrown away. Safe for threads."""

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self._tiles: LRUCache[tuple[int, int], np.ndarray] = LRUCache(limit, getsizeof=lambda tile: tile.nbytes)
        self._lock = threading.Lock()

    def get(self, key: tuple[int, int]) -> np.ndarray | None:
        with self._lock:
            return self._tiles.get(key)

    def put(self, key: tuple[int, int], tile: np.ndarray) -> None:
        with self._lock:
            if tile.nbytes <= self._tiles.maxsize:
                self._tiles[key] = tile


class TiledPicture:
    """One tiled picture with its colours side by side, read by windows like an array of [y, x, …]."""

    def __init__(self, page: Any, number: int, cache: DecodedTiles) -> None:
        self.page, self._number, self._cache = page, number, cache
        self.shape = tuple(page.shape)
        self._side = page.tilewidth, page.tilelength
        self._across = -(-page.imagewidth // page.tilewidth)
        self._file = page.parent.filehandle
        self._file.set_lock(True)

    @staticmethod
    def fits(level: Any) -> bool:
        """Whether a level of a tifffile series is such a picture."""
        page = level.keyframe
        return len(level.pages) == 1 and _is_tiled(page) and page.ndim <= 3

    def read(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        """H×W×S of a window that lies within the picture."""
        wide, high = self._side
        whole = np.empty((height, width, self.page.samplesperpixel), self.page.dtype)
        for row in range(y // high, -(-(y + height) // high)):
            for column in range(x // wide, -(-(x + width) // wide)):
                tile = self._tile(row * self._across + column)
                top, left = row * high - y, column * wide - x
                to = slice(max(top, 0), min(top + high, height)), slice(max(left, 0), min(left + wide, width))
                part = slice(to[0].start - top, to[0].stop - top), slice(to[1].start - left, to[1].stop - left)
                whole[to] = tile[part]
        return whole

    def _tile(self, index: int) -> np.ndarray:
        key = self._number, index
        tile = self._cache.get(key)
        if tile is None:
            tile = self._decoded(index)
            self._cache.put(key, tile)
        return tile

    def _decoded(self, index: int) -> np.ndarray:
        page = self.page
        offset, count = page.dataoffsets[index], page.databytecounts[index]
        if not count:  # a tile that the writer left out: the file says nothing of it
            empty = 0 if page.photometric == 0 else np.iinfo(page.dtype).max
            return np.full((page.tilelength, page.tilewidth, page.samplesperpixel), empty, page.dtype)
        with self._file.lock:
            self._file.seek(offset)
            data = self._file.read(count)
        if len(data) < count:
            raise ValueError(f"the file ends within tile {index}")
        tile, _, _ = page.decode(data, index, jpegtables=page.jpegtables, _fullsize=True)
        return np.asarray(tile).reshape(page.tilelength, page.tilewidth, -1)


class TiledLevels:
    """Those levels of a slide that are tiled pictures of a TIFF; for a reader that knows the format, and reads the others.

    `sizes`: width and height of each level.
    """

    errors: tuple[type[Exception], ...] = (OSError, RuntimeError, ValueError, KeyError, IndexError, TypeError)
    """What tifffile and its decoders raise on a file that they cannot read."""

    def __init__(self, path: Path, sizes: Sequence[tuple[int, int]]) -> None:
        import tifffile

        self._file, cache = tifffile.TiffFile(path, _multifile=False), DecodedTiles()
        every: list[Any] = list(self._file.pages)
        pages = {(p.imagewidth, p.imagelength): p for p in reversed(every) if _is_plain(p)}
        found = [pages.get((width, height)) for width, height in sizes]
        self._pictures = [None if page is None else TiledPicture(page, n, cache) for n, page in enumerate(found)]

    @classmethod
    def of(cls, path: Path, sizes: Sequence[tuple[int, int]]) -> TiledLevels | None:
        """Of a file that tifffile reads; None of any other."""
        try:
            return cls(path, sizes)
        except cls.errors:
            return None

    def read(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray | None:
        """H×W×3 uint8 of a window; None where the other reader must read it. Raises `errors` for a damaged tile."""
        picture = self._pictures[level]
        if picture is None or min(x, y) < 0 or y + height > picture.shape[0] or x + width > picture.shape[1]:
            return None
        return picture.read(x, y, width, height)

    def close(self) -> None:
        self._file.close()


def _is_plain(page: Any) -> bool:
    """Whether it is a whole tiled RGB picture that every decoder decodes alike."""
    rgb = page.shape[2:] == (3,) and page.dtype == np.uint8 and page.photometric in (2, 6)
    return _is_tiled(page) and rgb and page.compression in PLAIN and all(page.databytecounts)


def _is_tiled(page: Any) -> bool:
    """Whether it is cut into flat tiles with their colours side by side."""
    return bool(page.is_tiled and page.planarconfig == 1 and page.imagedepth == 1)
