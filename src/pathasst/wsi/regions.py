"""Where a person wants a slide looked at, and where not. Knows slides and shapes, no tool."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pathasst.core.errors import BadInput
from pathasst.imaging.areas import in_words, read_regions
from pathasst.imaging.slides import Slide
from pathasst.wsi.objects import SlideObject

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry


@dataclass(frozen=True)
class Regions:
    """Areas in px of the finest level. `notes`: what of their files was left out, as whole sentences."""

    include: BaseGeometry | None = None
    exclude: BaseGeometry | None = None
    notes: Sequence[str] = ()

    @classmethod
    def read(cls, slide: Slide, include: Path | str | None, exclude: Path | str | None) -> Regions:
        """From GeoJSON files. Raises BadInput for one without areas, or with none on the slide."""
        notes: list[str] = []
        shapes = [_on_slide(slide, Path(file), notes) if file else None for file in (include, exclude)]
        return cls(shapes[0], shapes[1], notes)

    def keep(self, objects: list[SlideObject]) -> list[SlideObject]:
        """The objects whose middles lie inside."""
        if not objects or (self.include is None and self.exclude is None):
            return objects
        import numpy as np
        import shapely

        keep = np.ones(len(objects), bool)
        xs, ys = [o.x for o in objects], [o.y for o in objects]
        for area, inside in ((self.include, True), (self.exclude, False)):
            if area is not None:
                shapely.prepare(area)
                keep &= shapely.contains_xy(area, xs, ys) == inside
        return [o for o, stays in zip(objects, keep, strict=True) if stays]


def _on_slide(slide: Slide, file: Path, notes: list[str]) -> BaseGeometry:
    from shapely.geometry import box

    left_out: Counter[str] = Counter()
    area = read_regions(file, left_out=left_out)
    if left_out:
        notes.append(f"Of {file.name} was left out: {in_words(left_out)}.")
    if not area.intersects(box(0, 0, *slide.size)):
        corners = ", ".join(f"{v:g}" for v in area.bounds)
        raise BadInput(
            f"{file.name}: its areas ({corners}) lie outside of {slide.name} ({slide.size[0]}×{slide.size[1]} px). "
            "Coordinates are px of the finest level: these may be of another slide, of another level, or in µm."
        )
    return area
