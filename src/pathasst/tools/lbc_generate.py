"""Generation of cytology pictures. Declared: the card and the arguments are agreed, the model is still to come."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pathasst.tools.protocol import Arguments, Tool, ToolCard


class LbcGenerateArguments(Arguments):
    """The cell that is asked for."""

    cell_class: Literal["NILM", "ASC-US", "LSIL", "ASC-H", "HSIL", "SCC"] = Field(description="Bethesda class of the cell.")
    nuclear_enlargement: float | None = Field(
        default=None, ge=1.0, le=6.0, description="Size of the nucleus against a normal intermediate cell's: 2.5 = 2.5 times."
    )
    irregular_nucleus: bool = Field(default=False, description="Irregular nuclear outline.")
    hyperchromasia: bool = Field(default=False, description="Dark nucleus.")
    koilocytic_cytoplasm: bool = Field(default=False, description="Clear halo around the nucleus.")
    count: int = Field(default=1, ge=1, le=8, description="How many pictures.")
    seed: int = Field(default=0, ge=0, description="The same seed gives the same pictures.")


class LbcGenerate(Tool[LbcGenerateArguments]):
    """Synthetic pictures of cervical cells from a description (paper, model zoo 4)."""

    name = "lbc_generate"
    card = ToolCard(
        purpose=(
            "Generates synthetic pictures of a cervical cell of an asked Bethesda class and features, for teaching. "
            "Use it only when the person asks to create or draw a cell; the pictures are not of any patient."
        ),
        expects="no picture; a class and features",
        classes=("NILM", "ASC-US", "LSIL", "ASC-H", "HSIL", "SCC"),
        limits="pictures are synthetic and marked so",
    )
    arguments = LbcGenerateArguments
    needs_image = False
