"""Segmentation with MobileSAM: declaration for now; the model follows in this file."""

from __future__ import annotations

from pydantic import Field

from pathasst.tools.protocol import Arguments, Tool, ToolCard


class SegmentArguments(Arguments):
    """Points or a box to segment; neither: everything in the picture."""

    points: list[tuple[float, float]] = Field(default=[], max_length=64, description="x, y in px inside the one object wanted.")
    not_points: list[tuple[float, float]] = Field(default=[], max_length=64, description="x, y in px outside of it.")
    box: tuple[float, float, float, float] | None = Field(default=None, description="x1, y1, x2, y2 in px around the object.")
    um_per_px: float | None = Field(default=None, gt=0.02, lt=10.0, description="Micrometres per pixel, if known.")


class Segment(Tool[SegmentArguments]):
    """Masks of the object at a point or in a box, or of everything (paper, model zoo 8)."""

    name = "segment"
    card = ToolCard(
        purpose=(
            "Outlines objects in any picture: the one at given points or in a given box, or everything when neither is given; "
            "returns areas and counts. It does not say what an object is."
        ),
        expects="any picture, at least 32 px",
        licence="Apache-2.0",
    )
    arguments = SegmentArguments
    weights = ("mobilesam",)
