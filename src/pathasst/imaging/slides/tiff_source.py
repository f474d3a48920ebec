"""OME-TIFF and plain TIFF of any size through tifffile: strips or tiles, planar or interleaved, levels in SubIFDs.

One file alone: OME-XML may name others, which are not opened, as an uploaded file must not name what the server reads.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError, fromstring

import numpy as np

from pathasst.core.errors import BadInput
from pathasst.imaging.slides.source import SlideFacts
from pathasst.imaging.slides.tiff_tiles import DecodedTiles, TiledPicture

MAX_CHUNK = 256 * 2**20
"""Bytes of one strip or tile, decoded. A TIFF in one compressed strip would have to be read whole."""
UNITS = {"nm": 1e-3, "µm": 1.0, "μm": 1.0, "um": 1.0, "mm": 1e3, "cm": 1e4}
PER_UNIT = {2: 25400.0, 3: 10000.0}  # TIFF's ResolutionUnit: inch, centimetre, in µm


class OneLargeStrip(BadInput):
    """The picture is one compressed strip: it can be read from its beginning only."""


class TiffSource:
    """A TIFF whose series of the most pixels is an RGB or grey picture. Raises BadInput for any other."""

    def __init__(self, path: Path) -> None:
        import tifffile
        import zarr

        self.errors: tuple[type[Exception], ...] = (tifffile.TiffFileError, RuntimeError, KeyError, IndexError, TypeError)
        try:
            self._file = tifffile.TiffFile(path, _multifile=False)
            series = max(self._file.series, key=lambda s: s.size)
            self._axes: str = series.axes
            _check_whole(path, self._file)
            self._arrays: list[Any] = [zarr.open(series.aszarr(level=i), mode="r") for i in range(len(series.levels))]
        except (tifffile.TiffFileError, OSError, ValueError, KeyError, IndexError, TypeError, RuntimeError) as error:
            raise BadInput(f"{path.name} cannot be opened as a TIFF; it is damaged or cut off: {error}") from error
        self._page = series.keyframe
        _check(path.name, series, self._arrays)
        cache = DecodedTiles()
        self._tiled = [TiledPicture(v.keyframe, n, cache) if TiledPicture.fits(v) else None for n, v in enumerate(series.levels)]
        self._shift = 0 if series.dtype == np.uint8 else 8
        ome = _ome_pixels(self._file.ome_metadata or "")
        self.facts = SlideFacts(
            vendor="ome-tiff" if ome else "tiff",
            sizes=tuple((_side(a, self._axes, "X"), _side(a, self._axes, "Y")) for a in self._arrays),
            um_per_px=_ome_scale(ome) if ome else _tag_scale(self._page),
            in_rows=not self._page.is_tiled,
            properties={"tiff.description": self._page.description[:10_000]} | {f"ome.{k}": v for k, v in ome.items()},
        )

    def read(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        if (tiled := self._tiled[level]) is not None:
            return self._as_rgb(tiled.read(x, y, width, height)[..., :3])
        windows = {"Y": slice(y, y + height), "X": slice(x, x + width), "S": slice(0, 3), "C": slice(0, 3)}
        pixels = np.asarray(self._arrays[level][tuple(windows.get(axis, 0) for axis in self._axes)])
        read_axes = [axis for axis in self._axes if axis in windows]
        if "C" in read_axes and read_axes[0] == "C":
            pixels = np.moveaxis(pixels, 0, -1)
        if "S" in read_axes and read_axes[0] == "S":
            pixels = np.moveaxis(pixels, 0, -1)
        return self._as_rgb(pixels)

    def _as_rgb(self, pixels: np.ndarray) -> np.ndarray:
        if self._shift:
            pixels = (pixels >> self._shift).astype(np.uint8)
        if self._page.photometric == 0:  # white is zero
            pixels = 255 - pixels
        grey = pixels.ndim == 2 or pixels.shape[-1] == 1
        return np.repeat(pixels.reshape(*pixels.shape[:2], 1), 3, -1) if grey else np.ascontiguousarray(pixels)

    def close(self) -> None:
        self._file.close()


def is_ome(path: Path) -> bool:
    """Whether a TIFF carries OME-XML. Raises BadInput when its end is missing."""
    import tifffile

    try:
        with tifffile.TiffFile(path, _multifile=False) as file:
            _check_whole(path, file)
            return bool(file.is_ome)
    except (tifffile.TiffFileError, OSError, ValueError, KeyError, IndexError, TypeError):
        return False


def _check(name: str, series: Any, arrays: list[Any]) -> None:
    axes, shape, page = series.axes, series.shape, series.keyframe
    if series.dtype not in (np.uint8, np.uint16):
        raise BadInput(f"{name} holds {series.dtype} values; a slide has 8 or 16 bits a colour.")
    if "Y" not in axes or "X" not in axes or any(n > 1 for axis, n in zip(axes, shape, strict=True) if axis not in "YXSC"):
        raise BadInput(f"{name} is a stack ({axes} {shape}); save one plane of it.")
    colours = int(np.prod([n for axis, n in zip(axes, shape, strict=True) if axis in "SC"]))
    if colours not in (1, 3, 4):
        raise BadInput(f"{name} has {colours} channels, as fluorescence has; a slide here is brightfield RGB.")
    if page.photometric not in (0, 1, 2, 6):
        raise BadInput(f"{name} has the colours {page.photometric.name}; save it as RGB.")
    from tifffile import TIFF

    if page.compression not in TIFF.DECOMPRESSORS:
        raise BadInput(f"{name} is compressed as {page.compression.name}, which cannot be read here; save it as JPEG or Deflate.")
    if any(int(np.prod(a.chunks)) * a.dtype.itemsize > MAX_CHUNK for a in arrays):
        raise OneLargeStrip(f"{name} is stored in strips of more than {MAX_CHUNK >> 20} MB; save it in tiles.")


def _check_whole(path: Path, file: Any) -> None:
    """tifffile reads a strip beyond the file's end as black, so a half-copied file must be found out before. Raises BadInput."""
    size = path.stat().st_size
    if not _list_ends(file, size):
        raise BadInput(f"{path.name} is cut off: its list of pictures leads beyond its {size} bytes.")
    pages = [*file.pages, *(page for series in file.series for level in series.levels for page in level.pages)]
    for page in pages:
        ends = [o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=False)] if page is not None else []
        if max(ends, default=0) > size:
            raise BadInput(f"{path.name} is cut off: {size} of at least {max(ends)} bytes are there.")


def _list_ends(file: Any, size: int) -> bool:
    """Whether the chain of TIFF directories ends as it should: what follows a directory that is not there, nobody would miss."""
    handle, form = file.filehandle, file.tiff

    def number(at: int, bytes_: int, layout: str) -> int | None:
        if at + bytes_ > size:
            return None
        handle.seek(at)
        return int(struct.unpack(layout, handle.read(bytes_))[0])

    at, directories = (8 if form.version == 43 else 4), set[int]()
    while offset := number(at, form.offsetsize, form.offsetformat):
        tags = number(offset, form.tagnosize, form.tagnoformat)
        if tags is None or offset in directories:
            return False
        directories.add(offset)
        at = offset + form.tagnosize + tags * form.tagsize
    return offset == 0


def _side(array: Any, axes: str, axis: str) -> int:
    return int(array.shape[axes.index(axis)])


def _ome_pixels(xml: str) -> dict[str, str]:
    """The attributes of the first Pixels element; empty without OME-XML."""
    if not xml or "<!DOCTYPE" in xml or "<!ENTITY" in xml:
        return {}
    try:
        root = fromstring(xml.encode())  # noqa: S314 - entities were refused above
    except ParseError:
        return {}
    element = next((e for e in root.iter() if e.tag.rpartition("}")[2] == "Pixels"), None)
    return {} if element is None else dict(element.attrib)


def _ome_scale(pixels: dict[str, str]) -> tuple[float, float] | None:
    try:
        x, y = (float(pixels[f"PhysicalSize{axis}"]) * UNITS[pixels.get(f"PhysicalSize{axis}Unit", "µm")] for axis in "XY")
    except (KeyError, ValueError):
        return None
    return (x, y) if x > 0 and y > 0 else None


def _tag_scale(page: Any) -> tuple[float, float] | None:
    """µm/px from the resolution tags: for what they are worth, `judge` decides."""
    unit = PER_UNIT.get(int(page.tags.valueof("ResolutionUnit", default=2)))
    if unit is None:
        return None
    sides = []
    for tag in ("XResolution", "YResolution"):
        numerator, denominator = page.tags.valueof(tag, default=(0, 1))
        if not numerator or not denominator:
            return None
        sides.append(unit * denominator / numerator)
    return sides[0], sides[1]
