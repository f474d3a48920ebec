"""`zoom`: a region of a picture at full resolution, as a further picture of the conversation, for a brain that sees."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from pathasst.core.errors import BadInput
from pathasst.core.records import Picture, ToolResult
from pathasst.imaging.pictures import crop, encode_png
from pathasst.tools.protocol import Arguments, Tool, ToolCard

if TYPE_CHECKING:
    import numpy as np

LEAST_SIDE = 32
Share = Annotated[float, Field(ge=0, le=1)]


class ZoomArguments(Arguments):
    """The region, in shares of the picture."""

    box: tuple[Share, Share, Share, Share] = Field(
        description="left, top, right, bottom of the region as shares of the picture's width and height, each from 0 to 1."
    )


class Zoom(Tool[ZoomArguments]):
    """Cuts a box out; no pixel is changed."""

    name = "zoom"
    card = ToolCard(
        purpose=(
            "Shows you a region of a picture at its full resolution, as a further picture. Use it when a detail is too small to "
            "be seen in the whole picture; it measures nothing."
        ),
        expects="any picture; a region of at least 32 px",
        validated=True,
    )
    arguments = ZoomArguments
    notice = ""
    shows = True

    def run(self, arguments: ZoomArguments, image: np.ndarray) -> ToolResult:
        """See the card. Raises BadInput for a box without a region of LEAST_SIDE px."""
        height, width = image.shape[:2]
        shares = arguments.box
        left, right = (round(share * width) for share in (shares[0], shares[2]))
        top, bottom = (round(share * height) for share in (shares[1], shares[3]))
        if min(right - left, bottom - top) < LEAST_SIDE:
            raise BadInput(
                f"the box {list(shares)} is {max(right - left, 0)}×{max(bottom - top, 0)} px of {width}×{height} px; "
                f"give left < right and top < bottom, with at least {LEAST_SIDE} px between them."
            )
        box = (left, top, right, bottom)
        return ToolResult(
            name=self.name,
            text=f"The region from x {left} to {right} and y {top} to {bottom} px of the picture's {width}×{height} px.",
            numbers={"box_px": list(box), "width": right - left, "height": bottom - top},
            pictures=[Picture(name="zoom", image=encode_png(crop(image, box)), region=list(box))],
        )
