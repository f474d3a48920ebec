"""The HER2 tool: the cell detector, and each cell's membrane stain by completeness and intensity (paper, model zoo 5).

The limits below are the wording of the ASCO/CAP guideline (2018) and customary optical densities. On patches of ten oesophageal
cores the score is that of the core for 0.42; nothing was validated for breast. The tool says so in every answer.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pathasst.core.records import Picture, ToolResult
from pathasst.tools.cells import detect
from pathasst.tools.cells.profile import PARTIAL, Profiles, doubt, in_nuclei, profile
from pathasst.tools.cells.size import NUCLEUS
from pathasst.tools.protocol import ToolCard

GRADES = ("0", "1+", "2+", "3+")
WEAK, STRONG = 0.2, 0.6  # optical density (log10) of the stained membrane
COMPLETE = 0.75  # share of the circumference
UNVALIDATED = (
    "This is an unvalidated method (optical density of DAB around each detected nucleus; all cells, not tumour cells alone)."
)
OWN = "The cells' grades come from the user's own trained model."
ENOUGH = 10.0  # per cent of the cells that decide the score


class Her2Cells(detect.CellTool):
    """Cells by membrane staining, and the score that follows."""

    name = "her2_cells"
    card = ToolCard(
        purpose=(
            "Counts cells by HER2 membrane staining (0, 1+, 2+, 3+) in a HER2 immunohistochemistry picture and estimates the "
            "HER2 score. Not for H&E, nor for nuclear stains such as Ki67. The method is not validated."
        ),
        expects="HER2 immunohistochemistry (membranous DAB, haematoxylin counterstain), 20–40×",
        classes=GRADES,
        licence="research use only (cell detector trained on Ki67 fields)",
        scores=(
            "59 patches of 10 oesophageal cores, labelled by core: the core's score for 0.42 (0.17–0.72), weighted kappa 0.57 "
            "(0.09–0.84); never 1+, and 2+ for 7 of 24"
        ),
        limits=(
            "not validated for breast; a rule of thumb on optical density that misses faint staining, so that 0 does not exclude "
            "1+ or 2+; does not separate invasive from in-situ or normal cells"
        ),
    )

    def run(self, arguments: detect.CellArguments, image: np.ndarray) -> ToolResult:
        """See the card. Raises BadInput for grey, dark or tiny pictures."""
        from pathasst.imaging.drawing import annotate

        cells, scale = self.locate(image, arguments, "The HER2 count")
        own = self.own_classes(GRADES)
        around = None if own else profile(image, cells.points, NUCLEUS / scale, WEAK)
        labels = self.names(cells) if around is None else [GRADES[g] for g in grade(around)]
        counts = {name: labels.count(name) for name in GRADES}
        numbers = detect.numbers_of(image, arguments, scale, cells=len(cells), counts=counts, score=score(counts))
        numbers["brown_in_nuclei"] = None if around is None else in_nuclei(around)
        marks = detect.marks(cells, labels)
        pictures = [Picture(name="her2", image=annotate(image, marks))]
        text, warnings = _text(numbers, own), doubt(numbers["brown_in_nuclei"])
        return ToolResult(name=self.name, text=text, numbers=numbers, annotations=marks, pictures=pictures, warnings=warnings)


def grade(profiles: Profiles) -> np.ndarray:
    """0–3 for each cell: 3 complete and strong, 2 complete and weaker (or strong but incomplete), 1 partial, 0 hardly any."""
    complete, partial = profiles.completeness >= COMPLETE, profiles.completeness >= PARTIAL
    strong = profiles.membrane >= STRONG
    return np.select([complete & strong, complete | (partial & strong), partial], [3, 2, 1], 0)  # type: ignore[no-any-return]


def score(counts: dict[str, int]) -> str | None:
    """The picture's score: the highest grade that, with those above it, more than 10 % of the cells reach. None without cells."""
    total = sum(counts.values())
    if not total:
        return None
    for lowest in (3, 2, 1):
        if 100 * sum(counts[g] for g in GRADES[lowest:]) / total > ENOUGH:
            return GRADES[lowest]
    return "0"


def _text(numbers: dict[str, Any], own: bool) -> str:
    n = numbers["cells"]
    if not n:
        return "No cells were found, so no HER2 score is given."
    counts = ", ".join(f"{g}: {c} ({100 * c / n:.0f} %)" for g, c in numbers["counts"].items())
    dense = "" if numbers["cells_per_mm2"] is None else f" Density {numbers['cells_per_mm2']:.0f} cells/mm²."
    how = OWN if own else UNVALIDATED
    return f"{n} cells by membrane staining – {counts}; estimated HER2 score {numbers['score']}.{dense} {how}"
