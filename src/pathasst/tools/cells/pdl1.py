"""The PD-L1 tool: the cell detector, and whether each cell has any membrane stain (paper, model zoo 6).

No labelled PD-L1 picture was at hand; nothing was validated, and the tool says so in every answer. The detector tells lymphocytes
from tumour cells only in part, so its proportion is not the pathologist's TPS, which counts viable tumour cells alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pathasst.core.records import Picture, ToolResult
from pathasst.tools.cells import detect
from pathasst.tools.cells.profile import PARTIAL, Profiles, doubt, in_nuclei, profile
from pathasst.tools.cells.size import NUCLEUS
from pathasst.tools.protocol import ToolCard

WEAK = 0.2  # optical density (log10): any intensity counts for PD-L1
UNVALIDATED = (
    "This is an unvalidated method (optical density of DAB around each detected nucleus; tumour and immune cells are separated "
    "only in part)."
)
OWN = "The cells' classes come from the user's own trained model."


class Pdl1Cells(detect.CellTool):
    """Positive and negative cells and their proportion."""

    name = "pdl1_cells"
    card = ToolCard(
        purpose=(
            "Counts PD-L1-positive and PD-L1-negative cells in a PD-L1 immunohistochemistry picture and estimates the tumour "
            "proportion score (TPS). Not for H&E, nor for nuclear stains such as Ki67. The method is not validated."
        ),
        expects="PD-L1 immunohistochemistry (membranous DAB, haematoxylin counterstain), 20–40×",
        classes=("positive", "negative"),
        licence="research use only (cell detector trained on Ki67 fields)",
        scores="none: no labelled PD-L1 pictures were at hand",
        limits="rule of thumb on optical density; immune cells are told from tumour cells only in part, so CPS is not given",
    )

    def run(self, arguments: detect.CellArguments, image: np.ndarray) -> ToolResult:
        """See the card. Raises BadInput for grey, dark or tiny pictures."""
        from pathasst.imaging.drawing import annotate

        cells, scale = self.locate(image, arguments, "The PD-L1 count")
        own = self.own_classes(self.card.classes)
        around = None if own else profile(image, cells.points, NUCLEUS / scale, WEAK)
        labels = self.names(cells) if around is None else ["positive" if s else "negative" for s in is_positive(around)]
        positive, n = labels.count("positive"), len(cells)
        tps = round(100 * positive / n, 1) if n else None
        numbers = detect.numbers_of(image, arguments, scale, cells=n, positive=positive, negative=n - positive, tps_percent=tps)
        numbers["brown_in_nuclei"] = None if around is None else in_nuclei(around)
        marks = detect.marks(cells, labels)
        pictures = [Picture(name="pdl1", image=annotate(image, marks))]
        text, warnings = _text(numbers, own), doubt(numbers["brown_in_nuclei"])
        return ToolResult(name=self.name, text=text, numbers=numbers, annotations=marks, pictures=pictures, warnings=warnings)


def is_positive(profiles: Profiles) -> np.ndarray:
    """Partial or complete membrane staining of any intensity, per cell."""
    return profiles.completeness >= PARTIAL


def _text(numbers: dict[str, Any], own: bool) -> str:
    if not numbers["cells"]:
        return "No cells were found, so no TPS is given."
    dense = "" if numbers["cells_per_mm2"] is None else f" Density {numbers['cells_per_mm2']:.0f} cells/mm²."
    return (
        f"{numbers['cells']} cells: {numbers['positive']} PD-L1-positive, {numbers['negative']} negative; estimated TPS "
        f"{numbers['tps_percent']} %.{dense} {OWN if own else UNVALIDATED}"
    )
