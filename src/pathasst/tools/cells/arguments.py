"""The arguments that the three immunohistochemical cell tools share."""

from __future__ import annotations

from pydantic import Field

from pathasst.tools.protocol import Arguments


class CellArguments(Arguments):
    """Scale of the picture, and how sure the detector must be."""

    um_per_px: float | None = Field(
        default=None, gt=0.02, lt=10.0, description="Micrometres per pixel, if known (20×: 0.5, 40×: 0.25)."
    )
    min_score: float | None = Field(
        default=None, ge=0.05, le=0.95, description="Least score of a cell that is counted; leave out for the model's own."
    )
