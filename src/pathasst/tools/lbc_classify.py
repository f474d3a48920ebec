"""Classification of liquid-based cytology. Declared: the card and the arguments are agreed, the model is still to come."""

from __future__ import annotations

from pathasst.tools.protocol import Arguments, Tool, ToolCard

BETHESDA = ("NILM", "ASC-US", "LSIL", "ASC-H", "HSIL", "SCC")
"""The six classes of The Bethesda System that the paper's models use, from normal to carcinoma."""


class LbcClassifyArguments(Arguments):
    """None: the whole picture is classified."""


class LbcClassify(Tool[LbcClassifyArguments]):
    """Which Bethesda class a cervical cytology picture belongs to (paper, model zoo 1)."""

    name = "lbc_classify"
    card = ToolCard(
        purpose=(
            "Classifies a liquid-based cervical cytology picture into one of the six Bethesda classes "
            "(NILM, ASC-US, LSIL, ASC-H, HSIL, SCC). Not for tissue sections or other organs."
        ),
        expects="cervical cytology (Pap stain, liquid-based), 20–40×, one field or cell crop",
        classes=BETHESDA,
    )
    arguments = LbcClassifyArguments
