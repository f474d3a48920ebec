"""Detection of blood cells. Declared: the card and the arguments are agreed, the model is still to come."""

from __future__ import annotations

from pydantic import Field

from pathasst.tools.protocol import Arguments, Tool, ToolCard


class BloodCellsArguments(Arguments):
    """How sure the detector must be, and whether white cells are typed."""

    min_score: float = Field(default=0.4, ge=0.0, le=1.0, description="Least score of a cell that is reported.")
    white_cell_types: bool = Field(default=False, description="Also name the type of each white cell (neutrophil …).")


class BloodCells(Tool[BloodCellsArguments]):
    """Boxes and counts of red cells, white cells and platelets (paper, model zoo 3)."""

    name = "blood_cells"
    card = ToolCard(
        purpose=(
            "Finds and counts red blood cells, white blood cells and platelets in a peripheral blood smear, and can name the "
            "types of white cells. Not for tissue sections or cervical cytology."
        ),
        expects="peripheral blood smear (Giemsa or Wright stain), 100× oil",
        classes=("WBC", "RBC", "Platelets"),
    )
    arguments = BloodCellsArguments
