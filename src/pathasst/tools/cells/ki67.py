"""Ki67 cells: declaration for now; the detector follows in this file."""

from __future__ import annotations

from pathasst.tools.cells.arguments import CellArguments
from pathasst.tools.protocol import Tool, ToolCard


class Ki67Cells(Tool[CellArguments]):
    """Points on Ki67-positive and -negative tumour cells, and the labelling index (paper, model zoo 7)."""

    name = "ki67_cells"
    card = ToolCard(
        purpose=(
            "Counts Ki67-positive (brown nucleus) and Ki67-negative (blue nucleus) tumour cells in an immunohistochemistry "
            "picture and gives the Ki67 index. Not for H&E, nor for membrane stains such as HER2 or PD-L1."
        ),
        expects="Ki67 immunohistochemistry (nuclear DAB, haematoxylin counterstain), 20–40×",
        classes=("positive", "negative"),
    )
    arguments = CellArguments
    weights = ("ki67-embedded",)
