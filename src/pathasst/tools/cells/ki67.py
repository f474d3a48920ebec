"""The Ki67 tool: points on positive and negative tumour cells, the labelling index (paper, model zoo 7)."""

from __future__ import annotations

from typing import Any

import numpy as np

from pathasst.core.records import Picture, ToolResult
from pathasst.tools.cells import detect
from pathasst.tools.cells.size import NUCLEUS
from pathasst.tools.protocol import ToolCard

TRAINED_ON = "Ki67 fields of breast cancer (BCData, SHIDC-B-Ki-67)"
OUTSIDE = (
    "most of the brown lies outside of nuclei, as in a membrane or cytoplasm stain; if this is not a Ki67 stain, the index means "
    "nothing."
)
ELSEWHERE = 0.7  # share of brown outside of positive nuclei from which the picture is doubted
FEW = 100  # cells below which an index is not worth its decimals


class Ki67Cells(detect.CellTool):
    """Counts and index from the embedded P2PNet."""

    name = "ki67_cells"
    card = ToolCard(
        purpose=(
            "Counts Ki67-positive (brown nucleus) and Ki67-negative (blue nucleus) tumour cells in an immunohistochemistry "
            "picture and gives the Ki67 index. Not for H&E, nor for membrane stains such as HER2 or PD-L1."
        ),
        expects="Ki67 immunohistochemistry (nuclear DAB, haematoxylin counterstain), 20–40×",
        classes=("positive", "negative"),
        licence="research use only (trained on BCData, non-commercial, and SHIDC-B-Ki-67, research)",
        scores=(
            "F1 within 12 px on 8 held-out fields of BCData and SHIDC-B-Ki-67, 839 cells (95 %): 0.78 (0.73–0.82); error "
            "of the index 6 percentage points a field in the mean, 0.2 of all cells together"
        ),
        validated=True,
        limits=f"trained on {TRAINED_ON} alone; small network; lymphocytes are told apart only in part",
    )

    def run(self, arguments: detect.CellArguments, image: np.ndarray) -> ToolResult:
        """See the card. Raises BadInput for grey, dark or tiny pictures."""
        from pathasst.imaging.drawing import annotate
        from pathasst.tools.cells.profile import stain_elsewhere

        cells, scale = self.locate(image, arguments, "The Ki67 count")
        labels = self.names(cells)
        positive, negative = labels.count("positive"), labels.count("negative")
        numbers = detect.numbers_of(
            image,
            arguments,
            scale,
            cells=positive + negative,
            positive=positive,
            negative=negative,
            index_percent=_index(positive, negative),
        )
        brown = cells.points[[label == "positive" for label in labels]]
        numbers["brown_outside_nuclei"] = round(stain_elsewhere(image, brown, NUCLEUS / scale), 3)
        marks = detect.marks(cells, labels)
        pictures = [Picture(name="ki67", image=annotate(image, marks))]
        doubted = numbers["cells"] and numbers["brown_outside_nuclei"] > ELSEWHERE
        return ToolResult(
            name=self.name,
            text=_text(numbers),
            numbers=numbers,
            annotations=marks,
            pictures=pictures,
            warnings=[OUTSIDE] if doubted else [],
        )


def _index(positive: int, negative: int) -> float | None:
    return round(100 * positive / (positive + negative), 1) if positive + negative else None


def _text(numbers: dict[str, Any]) -> str:
    n = numbers["cells"]
    if not n:
        return f"No tumour cells were found. The detector was trained on {TRAINED_ON}."
    counts = f"{numbers['positive']} Ki67-positive, {numbers['negative']} negative"
    parts = [f"{n} tumour cells: {counts}; Ki67 index {numbers['index_percent']} %."]
    if numbers["cells_per_mm2"] is not None:
        parts.append(f"Density {numbers['cells_per_mm2']:.0f} cells/mm².")
    if n < FEW:
        parts.append(f"Fewer than {FEW} cells: the index is uncertain.")
    parts.append(f"The detector was trained on {TRAINED_ON}.")
    return " ".join(parts)
