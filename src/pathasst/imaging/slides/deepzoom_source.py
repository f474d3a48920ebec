"""Deep Zoom: a .dzi file with its folder of tiles, as libvips, OpenSlide and web viewers write it."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from xml.etree.ElementTree import ParseError, fromstring

import numpy as np

from pathasst.core.errors import BadInput
from pathasst.imaging.pictures import load
from pathasst.imaging.slides.source import SlideFacts

MAX_XML = 10**6


class DeepZoomSource:
    """Reads `<name>.dzi` and `<name>_files/<level>/<column>_<row>.<format>`. Raises BadInput for a damaged description."""

    errors: tuple[type[Exception], ...] = (BadInput,)

    def __init__(self, path: Path) -> None:
        try:
            text = path.read_bytes()[:MAX_XML]
            if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
                raise ValueError("it declares entities")
            image = fromstring(text)  # noqa: S314 - entities were refused above
            size = next(e for e in image.iter() if e.tag.rpartition("}")[2] == "Size")
            width, height = int(size.attrib["Width"]), int(size.attrib["Height"])
            self._tile, self._overlap = int(image.attrib["TileSize"]), int(image.attrib["Overlap"])
            self._format = image.attrib["Format"]
            if min(width, height, self._tile) < 1 or self._overlap < 0 or not self._format.isalnum():
                raise ValueError("its sizes make no sense")
        except (OSError, ParseError, StopIteration, KeyError, ValueError) as error:
            raise BadInput(f"{path.name} is no Deep Zoom description: {error}") from error
        self._folder = path.with_name(f"{path.stem}_files")
        if not self._folder.is_dir():
            raise BadInput(f"{path.name}: its folder of tiles {self._folder.name} is not there.")
        self._deepest = math.ceil(math.log2(max(width, height)))
        sizes = [(width, height)]
        for number in range(self._deepest - 1, -1, -1):
            if max(sizes[-1]) <= self._tile or not (self._folder / str(number)).is_dir():
                break
            sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
        self.facts = SlideFacts(
            vendor="deepzoom", sizes=tuple(sizes), um_per_px=_vips_scale(self._folder / "vips-properties.xml")
        )
        self._load = lru_cache(maxsize=64)(self._load_tile)

    def read(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        pixels = np.empty((height, width, 3), np.uint8)
        for row in range(y // self._tile, (y + height - 1) // self._tile + 1):
            for column in range(x // self._tile, (x + width - 1) // self._tile + 1):
                tile = self._load(level, column, row)
                # A tile carries `overlap` px of each neighbour, so the first column and row begin without.
                left, top = column * self._tile, row * self._tile
                skip_x, skip_y = (self._overlap if column else 0), (self._overlap if row else 0)
                x1, y1 = max(x, left), max(y, top)
                x2, y2 = min(x + width, left + self._tile), min(y + height, top + self._tile)
                part = tile[y1 - top + skip_y : y2 - top + skip_y, x1 - left + skip_x : x2 - left + skip_x]
                if part.shape[:2] != (y2 - y1, x2 - x1):
                    raise BadInput(f"the tile {level}/{column}_{row} has {tile.shape[1]}×{tile.shape[0]} px, too few.")
                pixels[y1 - y : y2 - y, x1 - x : x2 - x] = part
        return pixels

    def close(self) -> None:
        self._load.cache_clear()

    def _load_tile(self, level: int, column: int, row: int) -> np.ndarray:
        return load(self._folder / str(self._deepest - level) / f"{column}_{row}.{self._format}")


def _vips_scale(file: Path) -> tuple[float, float] | None:
    """µm/px that libvips kept of the slide it cut, if it did."""
    try:
        text = file.read_bytes()[:MAX_XML]
        if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
            return None
        root = fromstring(text)  # noqa: S314 - entities were refused above
    except (OSError, ParseError):
        return None
    values = {}
    for entry in root.iter():
        if entry.tag.rpartition("}")[2] == "property":
            name, value = (
                next((c.text or "" for c in entry if c.tag.rpartition("}")[2] == key), "") for key in ("name", "value")
            )
            values[name] = value
    try:
        return float(values["openslide.mpp-x"]), float(values["openslide.mpp-y"])
    except (KeyError, ValueError):
        return None
