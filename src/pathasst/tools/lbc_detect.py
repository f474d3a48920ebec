"""The cervical cell tool: boxes of abnormal cells (paper, model zoo 2).

The shipped weights hardly tell the Bethesda classes apart, so no class is given; weights of the user's own give theirs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pathasst.core.records import Picture, ToolResult
from pathasst.imaging.pictures import per_mm2, require_brightfield
from pathasst.tools.boxing import LEAST_SIDE, BoxArguments, BoxTool, counted, marks
from pathasst.tools.protocol import ToolCard

ABNORMAL = "abnormal"
TRAINED_ON = "conventional Pap smears (CRIC), not liquid-based ones"


class LbcDetectArguments(BoxArguments):
    """How sure the detector must be, and the scale."""


class LbcDetect(BoxTool[LbcDetectArguments]):
    """Boxes of abnormal cells."""

    name = "lbc_detect"
    what = "The search for abnormal cervical cells"
    card = ToolCard(
        purpose=(
            "Finds abnormal cells in a cervical cytology field and boxes them, without their Bethesda class. Use it to locate or "
            "count abnormal cells; not for tissue sections."
        ),
        expects="cervical cytology field (Pap stain), 40×",
        classes=(ABNORMAL,),
        licence="CC BY 4.0 (trained on CRIC, as reported)",
        scores=(
            "CRIC, 17 test fields, 113 abnormal cells: AP@0.5 of any abnormal cell 0.621 (0.523–0.770), "
            "F1 0.562 (0.477–0.674); mean AP@0.5 over the five classes 0.173: no class is given"
        ),
        limits=f"weak: misses abnormal cells and cannot tell their classes; trained on {TRAINED_ON}",
    )
    arguments = LbcDetectArguments
    weights = ("lbc-detect-embedded",)
    required_look = ("preparation", ("cervical cytology",))

    def run(self, arguments: LbcDetectArguments, image: np.ndarray) -> ToolResult:
        """See the card. Raises BadInput for grey, dark or tiny pictures."""
        from pathasst.imaging.drawing import annotate

        require_brightfield(image, LEAST_SIDE, self.what)
        scale = self.factor(arguments.um_per_px)
        boxes = self.detector.detect([image], scale=scale, min_score=arguments.min_score)[0]
        settings = self.detector.settings
        own = self.model != self.weights[0]
        labels = [settings.classes[c] if own else ABNORMAL for c in boxes.classes]
        counts = {settings.classes[i]: labels.count(settings.classes[i]) for i in settings.reported} if own else {}
        numbers: dict[str, Any] = {"cells": len(labels), **counts}
        numbers["cells_per_mm2"] = per_mm2(len(labels), image, arguments.um_per_px)
        annotations = marks(boxes, labels)
        pictures = [Picture(name="abnormal", image=annotate(image, annotations))]
        return ToolResult(
            name=self.name, text=_text(numbers, counts), numbers=numbers, annotations=annotations, pictures=pictures
        )


def _text(numbers: dict[str, Any], counts: dict[str, int]) -> str:
    trained = f"The detector was trained on {TRAINED_ON}; it is weak, and cannot tell which Bethesda class a cell is."
    if not numbers["cells"]:
        return f"No abnormal cells were found; that does not exclude them. {trained}"
    parts = ", ".join(f"{n} {name}" for name, n in counts.items() if n)
    density = "" if numbers["cells_per_mm2"] is None else f" Density {numbers['cells_per_mm2']:.0f} cells/mm²."
    kinds = f": {parts}" if parts else ""
    return f"{counted(numbers['cells'], 'abnormal cell')}{kinds}.{density} {trained}"
