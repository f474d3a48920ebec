"""PD-L1 cells: declaration for now; the method follows in this file."""

from __future__ import annotations

from pathasst.tools.cells.arguments import CellArguments
from pathasst.tools.protocol import Tool, ToolCard


class Pdl1Cells(Tool[CellArguments]):
    """PD-L1-positive and -negative cells and their proportion (paper, model zoo 6)."""

    name = "pdl1_cells"
    card = ToolCard(
        purpose=(
            "Counts PD-L1-positive and PD-L1-negative cells in a PD-L1 immunohistochemistry picture and estimates the tumour "
            "proportion score (TPS). Not for H&E, nor for nuclear stains such as Ki67. The method is not validated."
        ),
        expects="PD-L1 immunohistochemistry (membranous DAB, haematoxylin counterstain), 20–40×",
        classes=("positive", "negative"),
    )
    arguments = CellArguments
    weights = ("ki67-embedded",)
