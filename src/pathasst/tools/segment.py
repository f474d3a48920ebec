"""The segmentation tool: masks, areas and counts (paper, model zoo 8). Knows arguments and results; `sam` knows the model."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from pathasst.errors import BadInput
from pathasst.records import Annotation, Picture, ToolResult
from pathasst.tools import rle
from pathasst.tools.images import encode_png, require_side
from pathasst.tools.protocol import NOTICE, Arguments, Tool, ToolCard

if TYPE_CHECKING:
    from pathasst.tools.sam import Masks, MobileSam

MAX_SIDE = 4096


class SegmentArguments(Arguments):
    """Points or a box to segment; neither: everything in the picture."""

    points: list[tuple[float, float]] = Field(default=[], max_length=64, description="x, y in px inside the one object wanted.")
    not_points: list[tuple[float, float]] = Field(default=[], max_length=64, description="x, y in px outside of it.")
    box: tuple[float, float, float, float] | None = Field(default=None, description="x1, y1, x2, y2 in px around the object.")
    um_per_px: float | None = Field(default=None, gt=0.02, lt=10.0, description="Micrometres per pixel, if known.")


class Segment(Tool[SegmentArguments]):
    """Masks of the object at a point or in a box, or of everything."""

    name = "segment"
    card = ToolCard(
        purpose=(
            "Outlines objects in any picture: the one at given points or in a given box, or everything when neither is given; "
            "returns areas and counts. It does not say what an object is."
        ),
        expects="any picture, at least 32 px",
        scores="not measured on pathology by us; the model was trained on photographs",
        licence="Apache-2.0 (MobileSAM)",
        limits="finds visible edges, not tissue types; masks of crowded nuclei are incomplete",
    )
    arguments = SegmentArguments
    weights = ("mobilesam",)

    @cached_property
    def model(self) -> MobileSam:
        """Loaded on first use. Raises MissingWeights."""
        from pathasst.tools.sam import MobileSam

        return MobileSam()

    def run(self, arguments: SegmentArguments, image: np.ndarray) -> ToolResult:
        """See the card. Raises BadInput for a picture too small or too large, and for prompts outside of it."""
        require_side(image, 32, "Segmentation")
        if max(image.shape[:2]) > MAX_SIDE:
            raise BadInput(f"segmentation takes pictures of up to {MAX_SIDE} px a side; cut out the part of interest.")
        _check_prompts(arguments, image)
        embedding = self.model.set_image(image)
        if arguments.box is None and not arguments.points:
            masks = self.model.everything(embedding)
        else:
            points = np.array([*arguments.points, *arguments.not_points], np.float32).reshape(-1, 2)
            inside = np.arange(len(points)) < len(arguments.points)
            box = None if arguments.box is None else np.array(arguments.box, np.float32)
            masks = _best(self.model.predict(embedding, points, inside, box))
        return _result(masks, image, arguments)


def _check_prompts(arguments: SegmentArguments, image: np.ndarray) -> None:
    height, width = image.shape[:2]
    outside = [p for p in [*arguments.points, *arguments.not_points] if not (0 <= p[0] <= width and 0 <= p[1] <= height)]
    if outside:
        raise BadInput(f"the point {outside[0]} lies outside of the picture of {width}×{height} px.")
    if arguments.not_points and not arguments.points and arguments.box is None:
        raise BadInput("not_points alone say nothing of the object; give points or a box too.")
    if arguments.box is not None:
        x1, y1, x2, y2 = arguments.box
        if not (0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height):
            raise BadInput(f"the box must be x1 < x2 ≤ {width} and y1 < y2 ≤ {height} px; it is {arguments.box}.")


def _best(masks: Masks) -> Masks:
    from pathasst.tools.sam import Masks

    return Masks(masks.masks[:1], masks.scores[:1])


def _result(found: Masks, image: np.ndarray, arguments: SegmentArguments) -> ToolResult:
    from pathasst.tools.drawing import annotate

    height, width = image.shape[:2]
    annotations, areas, union = [], [], np.zeros((height, width), bool)
    for mask, score in zip(found.masks, found.scores, strict=True):
        if not mask.any():
            continue
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        corners = [float(v) for v in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)]
        annotations.append(
            Annotation(kind="mask", label="object", coordinates=corners, score=round(float(score), 3), rle=rle.encode(mask))
        )
        areas.append(int(mask.sum()))
        union |= mask
    numbers: dict[str, Any] = {
        "count": len(areas),
        "areas_px": areas,
        "covered_percent": round(100 * float(union.mean()), 2),
        "median_area_px": float(np.median(areas)) if areas else None,
    }
    if arguments.um_per_px:
        numbers["areas_um2"] = [round(a * arguments.um_per_px**2, 2) for a in areas]
    pictures = [Picture(name="segmentation", image=annotate(image, annotations, per_object=True))]
    pictures.append(Picture(name="mask", image=encode_png(union.astype(np.uint8) * 255)))
    return ToolResult(name="segment", text=_text(numbers, arguments), numbers=numbers, annotations=annotations, pictures=pictures)


def _text(numbers: dict[str, Any], arguments: SegmentArguments) -> str:
    n = numbers["count"]
    if not n:
        return f"Segmentation (MobileSAM) found no object. {NOTICE}"
    scale = arguments.um_per_px
    if arguments.points or arguments.box:
        area = f"{numbers['areas_px'][0]} px" + (f" = {numbers['areas_um2'][0]:.1f} µm²" if scale else "")
        return (
            f"Segmentation (MobileSAM) outlined the object: area {area}, {numbers['covered_percent']} % of the picture. {NOTICE}"
        )
    median = f"{numbers['median_area_px']:.0f} px" + (f" = {numbers['median_area_px'] * scale**2:.1f} µm²" if scale else "")
    return (
        f"Segmentation (MobileSAM) outlined {n} objects, median area {median}, together {numbers['covered_percent']} % of the "
        f"picture. It does not know what they are. {NOTICE}"
    )
