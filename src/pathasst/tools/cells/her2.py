"""HER2 cells: declaration for now; the method follows in this file."""

from __future__ import annotations

from pathasst.tools.cells.arguments import CellArguments
from pathasst.tools.protocol import Tool, ToolCard


class Her2Cells(Tool[CellArguments]):
    """Cells by HER2 membrane staining 0, 1+, 2+, 3+ (paper, model zoo 5)."""

    name = "her2_cells"
    card = ToolCard(
        purpose=(
            "Counts cells by HER2 membrane staining (0, 1+, 2+, 3+) in a HER2 immunohistochemistry picture and estimates the "
            "HER2 score. Not for H&E, nor for nuclear stains such as Ki67. The method is not validated."
        ),
        expects="HER2 immunohistochemistry (membranous DAB, haematoxylin counterstain), 20–40×",
        classes=("0", "1+", "2+", "3+"),
    )
    arguments = CellArguments
    weights = ("ki67-embedded",)
