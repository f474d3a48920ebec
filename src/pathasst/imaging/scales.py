"""The microscope's scale in µm per px from a picture's metadata, and which metadata. Knows TIFF tags and DICOM attributes.

A print resolution is no scale: 72 dpi would be 353 µm per px. A value that no microscope has is dropped, with a note.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FINEST, COARSEST = 0.01, 10.0
"""µm per px that a microscope's or scanner's picture can have; the tools take no others."""
_DESCRIPTION, _X_RESOLUTION, _UNIT = 270, 282, 296
_PER_UNIT = {
    "nm": 1e-3,
    "um": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "micrometre": 1.0,
    "mm": 1e3,
    "cm": 1e4,
    "inch": 25400.0,
    "in": 25400.0,
}
_PER_UNIT |= {"µm": 1.0, "μm": 1.0, "\\u00b5m": 1.0, "pm": 1e-6, "å": 1e-4, "m": 1e6}  # OME writes µ as U+00B5, others as U+03BC


@dataclass(frozen=True, slots=True)
class Scale:
    """µm per px of a picture as stored, or of a slide's finest level; None when unknown.

    `source`: which metadata states it, or `user`; empty when unknown. `note`: what was not believed, or is uneven.
    """

    um_per_px: float | None = None
    source: str = ""
    note: str = ""

    def __str__(self) -> str:
        value = "unknown" if self.um_per_px is None else f"{self.um_per_px:.4g} µm/px ({self.source})"
        return f"{value}; {self.note}" if self.note else value


def believed(um_per_px: float, source: str) -> Scale:
    """The scale, or none and a note when no microscope has it."""
    if FINEST <= um_per_px <= COARSEST:
        return Scale(um_per_px, source)
    return Scale(note=f"its {source} states {um_per_px:.4g} µm per px, which was not believed: the scale is taken as unknown")


def of_tiff(tags: Mapping[int, Any]) -> Scale:
    """The scale in a TIFF page's tags: OME-XML, Aperio's or ImageJ's description, else its resolution (NDPI, generic TIFF)."""
    description = tags.get(_DESCRIPTION, "")
    text = _utf8(description) if isinstance(description, str) else ""
    if "<OME" in text[:2000]:
        pixels = re.search(r"<(?:\w+:)?Pixels\b[^>]*>", text)
        attributes = {n: v for n, _, v in re.findall(r"""(\w+)\s*=\s*(["'])(.*?)\2""", pixels[0])} if pixels else {}
        per_unit = _PER_UNIT.get(attributes.get("PhysicalSizeXUnit", "µm").lower())
        size = _positive(attributes.get("PhysicalSizeX"))
        return believed(size * per_unit, "OME-XML") if size and per_unit else Scale()  # what OME leaves out, no tag knows better
    if (aperio := re.search(r"\bMPP\s*=\s*([\d.,]+)", text)) and (size := _positive(aperio[1].replace(",", "."))):
        return believed(size, "Aperio description")
    resolution, unit = _positive(tags.get(_X_RESOLUTION)), tags.get(_UNIT, 2)
    if not resolution:
        return Scale()
    if text.startswith("ImageJ="):
        named = re.search(r"^unit=(.+)$", text, re.MULTILINE)
        per_unit = _PER_UNIT.get(named[1].strip().lower()) if named else None
        return believed(per_unit / resolution, "ImageJ description") if per_unit else Scale()
    per_unit = {2: 25400.0, 3: 10000.0}.get(unit if isinstance(unit, int) else 2)
    if per_unit is None or (unit == 2 and resolution <= 1):  # no unit, or the 1 that a writer without a resolution puts
        return Scale()
    return believed(per_unit / resolution, "TIFF resolution")


def of_dicom(dataset: Any) -> Scale:
    """The scale in a DICOM dataset: PixelSpacing (mm) of the shared pixel measures, or of the picture itself."""
    shared = dataset.get("SharedFunctionalGroupsSequence") or [{}]
    measures = shared[0].get("PixelMeasuresSequence") or [{}]
    spacing = measures[0].get("PixelSpacing") or dataset.get("PixelSpacing")
    size = _positive(spacing[1]) if spacing else None
    return believed(size * 1000, "DICOM pixel spacing") if size else Scale()


def _utf8(text: str) -> str:
    """Pillow reads tags as Latin-1; OME-XML and ImageJ write UTF-8."""
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text


def _positive(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if 0 < number < float("inf") else None
