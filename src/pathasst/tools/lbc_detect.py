"""Detection of abnormal cervical cells. Declared: the card and the arguments are agreed, the model is still to come."""

from __future__ import annotations

from pydantic import Field

from pathasst.tools.lbc_classify import BETHESDA
from pathasst.tools.protocol import Arguments, Tool, ToolCard


class LbcDetectArguments(Arguments):
    """How sure the detector must be."""

    min_score: float = Field(default=0.3, ge=0.0, le=1.0, description="Least score of a cell that is reported.")


class LbcDetect(Tool[LbcDetectArguments]):
    """Boxes of abnormal cells of the five non-normal Bethesda classes (paper, model zoo 2)."""

    name = "lbc_detect"
    card = ToolCard(
        purpose=(
            "Finds abnormal cells in a cervical cytology field and boxes them with their Bethesda class "
            "(ASC-US, LSIL, ASC-H, HSIL, SCC). Use it to locate or count abnormal cells; not for tissue sections."
        ),
        expects="cervical cytology field (Pap stain), 40×",
        classes=BETHESDA[1:],
    )
    arguments = LbcDetectArguments
