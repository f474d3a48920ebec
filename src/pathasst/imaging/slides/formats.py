"""Which reader a file or folder goes to."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pathasst.core.errors import BadInput, MissingPackage
from pathasst.imaging.slides.scale import judge
from pathasst.imaging.slides.slide import Slide
from pathasst.imaging.slides.source import SlideSource

SUFFIXES = (".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide", ".dzi")
"""Files that are slides for sure; a TIFF, PNG, JPEG or DICOM file is opened as one when it is asked for as one."""
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""How TIFF and BigTIFF files begin."""
S = TypeVar("S", bound=Slide)
INSTALL = "reading slides needs the extra `slides`: pip install 'pathasst[slides]'"


def is_slide(path: Path) -> bool:
    """Whether the file's name is that of a slide scanner's format or of Deep Zoom, or the folder one of DICOM files."""
    return path.suffix.lower() in SUFFIXES or (path.is_dir() and dicom_in(path) is not None)


def open_slide(path: str | Path, mpp: float | None = None) -> Slide:
    """Open a slide: a file of any format named in this room, a folder of DICOM files, or a Deep Zoom folder.

    `mpp`: µm per px of the finest level, if the file does not state it or is wrong.
    Raises MissingPackage without the extra `slides`, BadInput (naming file and reason) for what cannot be read, BadSettings for
    an absurd `mpp`.
    """
    return open_as(Slide, path, mpp)


def open_as(kind: type[S], path: str | Path, mpp: float | None = None) -> S:
    """`open_slide` as an object of a class that does more than Slide."""
    path = Path(path)
    try:
        source = _source(path)
    except ImportError as error:
        raise MissingPackage(f"{INSTALL} ({error})") from None
    try:
        return kind(path, source, judge(source.facts.um_per_px, mpp))
    except BaseException:
        source.close()
        raise


def dicom_in(folder: Path) -> Path | None:
    """The first DICOM file of a folder; OpenSlide finds the others of its series."""
    return next((p for p in sorted(folder.iterdir()) if p.is_file() and _is_dicom(p)), None)


def _source(path: Path) -> SlideSource:
    from pathasst.imaging.slides.deepzoom_source import DeepZoomSource
    from pathasst.imaging.slides.vips_source import VipsSource

    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        raise BadInput(f"{path} is not there.")
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}") from error
    if not start:
        raise BadInput(f"{path.name} is empty.")
    if path.suffix.lower() == ".dzi":
        return DeepZoomSource(path)
    if start in TIFF:
        return _tiff(path)
    if path.suffix.lower() in SUFFIXES or _is_dicom(path):
        return _openslide(path)
    return VipsSource(path)


def _tiff(path: Path) -> SlideSource:
    """OpenSlide reads the scanners' TIFF; tifffile OME-TIFF and what OpenSlide does not know; libvips a single huge strip."""
    import openslide

    from pathasst.imaging.slides.openslide_source import OpenSlideSource
    from pathasst.imaging.slides.tiff_source import OneLargeStrip, TiffSource, is_ome
    from pathasst.imaging.slides.vips_source import VipsSource

    vendor = openslide.OpenSlide.detect_format(str(path))
    if vendor not in (None, "generic-tiff") or (vendor and not is_ome(path)):
        try:
            return OpenSlideSource(path)
        except BadInput:
            if vendor != "generic-tiff":
                raise
    try:
        return TiffSource(path)
    except OneLargeStrip:
        return VipsSource(path)


def _openslide(path: Path) -> SlideSource:
    from pathasst.imaging.slides.openslide_source import OpenSlideSource

    return OpenSlideSource(path)


def _folder(path: Path) -> SlideSource:
    from pathasst.imaging.slides.deepzoom_source import DeepZoomSource

    description = path.with_name(f"{path.name.removesuffix('_files')}.dzi")
    if path.name.endswith("_files") and description.is_file():
        return DeepZoomSource(description)
    if len(inside := sorted(path.glob("*.dzi"))) == 1:
        return DeepZoomSource(inside[0])
    first = dicom_in(path)
    if first is None:
        raise BadInput(f"{path} is a folder without DICOM files or a Deep Zoom description (.dzi).")
    return _openslide(first)


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False
