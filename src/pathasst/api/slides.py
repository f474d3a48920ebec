"""Whole slides in Python."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathasst.imaging.slides import Slide


def slide(path: Path | str, *, um_per_px: float | None = None) -> Slide:
    """Open a whole slide: any format of OpenSlide, a folder of DICOM files, OME-TIFF, a large picture, a Deep Zoom folder.

    `um_per_px`: µm per px of the finest level, if the file does not state it or is wrong.
    Raises MissingPackage without the extra `slides`, BadInput for what cannot be read, BadSettings for an absurd scale.

    >>> with pathasst.slide("case.svs") as case: print(case.size, case.um_per_px)
    """
    from pathasst.imaging.slides import open_slide

    return open_slide(path, um_per_px)


__all__ = ["slide"]
