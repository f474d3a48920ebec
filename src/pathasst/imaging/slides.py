"""Regions of whole slides through OpenSlide (extra `slides`), with the scale from the slide's metadata. Knows no tool."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pathasst.core.errors import BadInput, BadSettings, MissingPackage
from pathasst.imaging.pictures import MAX_PIXELS

SUFFIXES = (".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide")
"""Files that are slides for sure; a TIFF may be one too and is opened as one when a region is asked of it."""


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a slide. `image` H×W×3 uint8 RGB; `um_per_px` of that image, None when the slide does not say."""

    image: np.ndarray
    um_per_px: float | None
    box: tuple[int, int, int, int]  # x, y, width, height in px of the slide's finest level


def is_slide(path: Path) -> bool:
    """Whether the file's name is that of a slide scanner's format."""
    return path.suffix.lower() in SUFFIXES


def parse_box(text: str) -> tuple[int, int, int, int]:
    """`x,y,width,height` in px of the finest level. Raises BadSettings."""
    try:
        x, y, width, height = (int(v) for v in text.split(","))
    except ValueError:
        raise BadSettings(
            f"a region is x,y,width,height in px of the finest level, such as 1000,2000,1024,1024; not {text!r}"
        ) from None
    if width < 1 or height < 1:
        raise BadSettings("a region's width and height must be at least 1 px")
    return x, y, width, height


def read_region(path: Path, box: tuple[int, int, int, int] | None = None, level: int = 0) -> Region:
    """The pixels of `box` (all of the slide without one) at one of the slide's levels, 0 = finest.

    Transparent parts, which no scanner saw, become white. Raises MissingPackage without OpenSlide, BadInput for a file that is no
    slide, a box outside of it, a level it has not, or more than MAX_PIXELS.
    """
    slide = _open(path)
    try:
        width, height = slide.dimensions
        x, y, w, h = box or (0, 0, width, height)
        if x < 0 or y < 0 or x + w > width or y + h > height:
            raise BadInput(f"the region {(x, y, w, h)} does not lie within the slide of {width}×{height} px.")
        if not 0 <= level < slide.level_count:
            raise BadInput(f"{path.name} has the levels 0–{slide.level_count - 1}, not {level}.")
        shrink = float(slide.level_downsamples[level])
        size = max(round(w / shrink), 1), max(round(h / shrink), 1)
        if size[0] * size[1] > MAX_PIXELS:
            raise BadInput(
                f"the region has {size[0]}×{size[1]} px, the limit is {MAX_PIXELS // 1_000_000} megapixels; ask for a smaller "
                f"region or a coarser level (this slide has {slide.level_count})."
            )
        from PIL import Image

        pixels = slide.read_region((x, y), level, size)
        white = Image.new("RGBA", size, "white")
        image = np.asarray(Image.alpha_composite(white, pixels).convert("RGB"))
        return Region(image, _scale(slide, shrink), (x, y, w, h))
    finally:
        slide.close()


def _open(path: Path) -> Any:
    try:
        import openslide
    except ImportError:
        raise MissingPackage("reading slides needs OpenSlide: pip install 'pathasst[slides]'") from None
    if not path.is_file():
        raise BadInput(f"{path} is not there.")
    try:
        return openslide.OpenSlide(str(path))
    except openslide.OpenSlideError as error:
        raise BadInput(f"{path.name} cannot be opened as a slide ({error}); of another picture leave out the region.") from error


def _scale(slide: Any, shrink: float) -> float | None:
    value = slide.properties.get("openslide.mpp-x")
    try:
        return None if value is None else float(value) * shrink
    except ValueError:
        return None
