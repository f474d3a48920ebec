"""One region of a slide by its box and level, as the command line and the page ask for it."""

from __future__ import annotations

from pathlib import Path

from pathasst.core.errors import BadInput, BadSettings
from pathasst.imaging.slides.formats import open_slide
from pathasst.imaging.slides.slide import Region


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


def read_region(path: Path, box: tuple[int, int, int, int] | None = None, level: int = 0, mpp: float | None = None) -> Region:
    """The pixels of `box` (all of the slide without one) at the resolution of one of the slide's levels, 0 = finest.

    Raises MissingPackage without the extra `slides`, BadInput for a file that is no slide, a box outside of it, a level it has
    not, or more than MAX_PIXELS.
    """
    with open_slide(path, mpp) as slide:
        if not 0 <= level < len(slide.levels):
            raise BadInput(f"{path.name} has the levels 0–{len(slide.levels) - 1}, not {level}.")
        region = slide.read(box, downsample=sum(slide.levels[level].downsample) / 2)
        return Region(region.image, region.um_per_px, box or (0, 0, *slide.size), region.notes)
