"""The scanners' formats, generic pyramidal TIFF and DICOM through OpenSlide."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pathasst.core.errors import BadInput
from pathasst.imaging.slides.source import SlideFacts
from pathasst.imaging.slides.tiff_tiles import TiledLevels

if TYPE_CHECKING:
    from PIL.Image import Image

TILED = ("aperio", "generic-tiff")
"""Vendors whose levels are pictures of the TIFF as they are: no overlaps, no gaps, no shifts."""


class OpenSlideSource:
    """A slide that OpenSlide knows. Raises BadInput where it does not, with OpenSlide's own reason."""

    def __init__(self, path: Path) -> None:
        import openslide

        self.errors: tuple[type[Exception], ...] = (openslide.OpenSlideError,)
        try:
            self._slide = openslide.OpenSlide(str(path))
        except openslide.OpenSlideError as error:
            raise BadInput(f"{path.name} cannot be opened as a slide: {' '.join(str(error).split())}") from error
        self._factors = self._slide.level_downsamples
        properties = dict(self._slide.properties)
        mpp = _number(properties.get("openslide.mpp-x")), _number(properties.get("openslide.mpp-y"))
        vendor = properties.get("openslide.vendor", "")
        self._tiles = TiledLevels.of(path, self._slide.level_dimensions) if vendor in TILED else None
        if self._tiles is not None:  # a faster reader of the same pixels
            self.errors = (*self.errors, *self._tiles.errors)
        associated: Any = self._slide.associated_images
        self.facts = SlideFacts(
            vendor=vendor,
            sizes=tuple(self._slide.level_dimensions),
            um_per_px=(mpp[0], mpp[1]) if mpp[0] and mpp[1] else None,
            objective_power=_number(properties.get("openslide.objective-power")),
            properties=properties,
            pictures={name: partial(_picture, associated, name) for name in associated},
        )

    def read(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        if self._tiles is not None and (pixels := self._tiles.read(level, x, y, width, height)) is not None:
            return pixels
        # OpenSlide divides by its own factor, the mean over both axes: multiplying by that hits the level's px.
        factor = self._factors[level]
        return on_white(self._slide.read_region((round(x * factor), round(y * factor)), level, (width, height)))

    def close(self) -> None:
        self._slide.close()
        if self._tiles is not None:
            self._tiles.close()


def _picture(associated: Any, name: str) -> np.ndarray:
    return on_white(associated[name])


def on_white(image: Image) -> np.ndarray:
    """RGBA as RGB; what no scanner saw becomes white."""
    if image.mode != "RGBA":
        return np.asarray(image.convert("RGB"))
    pixels = np.asarray(image)
    if pixels[..., 3].min() == 255:
        import cv2

        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGBA2RGB))
    from PIL import Image as Pictures

    return np.asarray(Pictures.alpha_composite(Pictures.new("RGBA", image.size, "white"), image).convert("RGB"))


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 < value < float("inf") else None
