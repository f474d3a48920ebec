"""Whole slides as one object: size, levels, scale, and `read(region, um_per_px)` in bounded memory. Knows no tool.

OpenSlide reads the scanners' formats and DICOM, tifffile OME-TIFF and plain TIFF, libvips large PNG and JPEG; Deep Zoom folders
are read tile by tile. All of it comes with the extra `slides`.
"""

from pathasst.imaging.scales import Scale
from pathasst.imaging.slides.formats import SUFFIXES, is_slide, open_slide
from pathasst.imaging.slides.regions import parse_box, read_region
from pathasst.imaging.slides.scale import read_scales
from pathasst.imaging.slides.slide import Level, Region, Slide

__all__ = ["SUFFIXES", "Level", "Region", "Scale", "Slide", "is_slide", "open_slide", "parse_box", "read_region", "read_scales"]
