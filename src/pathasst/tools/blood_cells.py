"""The blood cell tool: boxes and counts of red cells, white cells and platelets, types of white cells (paper, model zoo 3)."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from pathasst.core import weights
from pathasst.core.records import Picture, ToolResult
from pathasst.imaging.pictures import per_mm2, require_brightfield
from pathasst.tools import red_cells
from pathasst.tools.boxing import LEAST_SIDE, BoxArguments, BoxTool, counted, marks
from pathasst.tools.protocol import ToolCard

if TYPE_CHECKING:
    from pathasst.nn.detector.boxes import Boxes

TYPES = "wbc-embedded"
"""Weights of the classifier of white cells. Optional: without them cells are counted, not typed."""
FIELD = 640  # px; a larger picture of unknown scale is first taken for one field of this size, as the training pictures are
RED_CELL = 70.0  # px of a red cell as the network sees it in training
RED_CELL_RANGE = (40.0, 110.0)  # px of red cells that training showed it
LOOSE, STRICT = 0.25, 0.7
"""Scores between which a white cell or a platelet is in doubt; see `red_cells` for the red ones."""
MARGIN = 1.1  # side of a white cell's crop, in sides of its box


class BloodCellsArguments(BoxArguments):
    """How sure the detector must be, the scale, and whether white cells are typed."""

    white_cell_types: bool = Field(
        default=False,
        description="Also name each white cell's type (differential: neutrophil, lymphocyte, monocyte, eosinophil, basophil).",
    )


class BloodCells(BoxTool[BloodCellsArguments]):
    """Counts from the embedded detector."""

    name = "blood_cells"
    what = "The blood cell count"
    card = ToolCard(
        purpose=(
            "Finds and counts red blood cells, white blood cells and platelets in a peripheral blood smear, and can name the "
            "types of white cells. Not for tissue sections or cervical cytology."
        ),
        expects="peripheral blood smear (Giemsa or Wright stain), 100× oil",
        classes=("WBC", "RBC", "Platelets"),
        licence="Apache-2.0 (trained on BCCD, MIT)",
        scores=(
            "BCCD's public validation split, 87 pictures: mAP@0.5 0.90 (95 % interval 0.87–0.93); AP@0.5 WBC 1.00, RBC 0.84, "
            "platelets 0.88; mean error of the count a picture WBC 0.0, RBC 4.1, platelets 0.3"
        ),
        validated=True,
        limits="one laboratory's smears; overlapping red cells are uncertain, as their labels are",
    )
    arguments = BloodCellsArguments
    weights = ("blood-embedded",)
    required_look = ("preparation", ("blood smear",))

    def run(self, arguments: BloodCellsArguments, image: np.ndarray) -> ToolResult:
        """See the card. Raises BadInput for grey, dark or tiny pictures."""
        from pathasst.imaging.drawing import annotate

        require_brightfield(image, LEAST_SIDE, self.what)
        candidates, scale = self.locate(image, arguments)
        classes = self.detector.settings.classes
        least = self.detector.settings.min_score if arguments.min_score is None else arguments.min_score
        keep = candidates.scores >= least
        ranges: dict[str, list[int]] = {}
        if arguments.min_score is None:
            ranges = {
                name: range_of(candidates, int((keep & (candidates.classes == n)).sum()), n) for n, name in enumerate(classes)
            }
            if self.model == self.weights[0]:  # of a detector of the user's own, only its threshold is known
                own = red_cells.counted(candidates, classes.index("RBC"), classes.index("WBC"), image.shape)
                if own:
                    keep = np.where(candidates.classes == classes.index("RBC"), own[0], keep)
                    ranges["RBC"] = list(own[1])
        boxes = candidates.take(keep)
        labels = [classes[c] for c in boxes.classes]
        counts = {name: labels.count(name) for name in classes}
        numbers: dict[str, Any] = {"cells": len(labels), **counts}
        numbers |= {f"{name}_range": span for name, span in ranges.items()}
        numbers |= {f"{name}_per_mm2": per_mm2(n, image, arguments.um_per_px) for name, n in counts.items()}
        numbers |= {"scale": round(scale, 3), "white_cell_types": None}
        warnings: list[str] = []
        if arguments.white_cell_types and counts.get("WBC"):
            white = [i for i, label in enumerate(labels) if label == "WBC"]
            types, warnings = white_cell_types(image, boxes.xyxy[white])
            typed = Counter(kind for kind in types if kind)
            numbers |= {"white_cell_types": dict(typed) or None, "white_cells_not_typed": len(white) - typed.total()}
            for place, kind in zip(white, types, strict=True):
                labels[place] = f"WBC {kind}" if kind else "WBC"
        annotations = marks(boxes, labels)
        pictures = [Picture(name="blood", image=annotate(image, annotations))]
        text = _text(numbers)
        return ToolResult(
            name=self.name, text=text, numbers=numbers, annotations=annotations, pictures=pictures, warnings=warnings
        )

    def locate(self, image: np.ndarray, arguments: BloodCellsArguments) -> tuple[Boxes, float]:
        """What may be cells (of LOOSE or more, or of the score asked for), and the factor they were looked for at: from µm/px,
        else from the size of the red cells themselves."""
        detector = self.detector
        least = min(LOOSE, detector.settings.min_score) if arguments.min_score is None else arguments.min_score
        factor_ = self.factor(arguments.um_per_px)
        own = detector.settings.scale or 1.0
        factor = factor_ or own * min(1.0, FIELD / max(image.shape[:2]))
        boxes = detector.detect([image], scale=factor, min_score=least)[0]
        if factor_ or "RBC" not in detector.settings.classes:
            return boxes, factor
        sure = boxes.above(max(least, detector.settings.min_score))
        red = sure.xyxy[sure.classes == detector.settings.classes.index("RBC")]
        if len(red) >= 5:
            side = factor * float(np.median(np.sqrt(np.prod(red[:, 2:] - red[:, :2], 1))))
            if not RED_CELL_RANGE[0] <= side <= RED_CELL_RANGE[1]:
                factor = min(factor * RED_CELL / side, 2.0)
                boxes = detector.detect([image], scale=factor, min_score=least)[0]
        return boxes, factor

    def scale_for(self, image: np.ndarray, um_per_px: float | None) -> float | None:
        """As the base class, with the scale read from the red cells where none is stated."""
        return self.locate(image, BloodCellsArguments(um_per_px=um_per_px))[1]


def white_cell_types(image: np.ndarray, boxes: np.ndarray) -> tuple[list[str], list[str]]:
    """The type of each white cell, empty where it is not stated, and warnings: of cells that are unlike those it was taught."""
    if not weights.present(TYPES):
        return [""] * len(boxes), [f"Types of white cells need the model {TYPES}, which is not here."]
    from pathasst.nn import heads

    head = heads.load(TYPES)
    judged = head([crop(image, box) for box in boxes])
    unlike = int((judged.distances > 1).sum())
    types = head.statements(judged)
    if not unlike:
        return types, []
    return types, [
        f"{counted(unlike, 'white cell')} of {len(boxes)} look unlike those of the two laboratories that taught the types, so no "
        "type is stated for these."
    ]


def range_of(candidates: Boxes, count: int, number: int) -> list[int]:
    """Between which counts the cells of class `number` may lie: those that are hardly in doubt, and all that may be one."""
    scores = candidates.scores[candidates.classes == number]
    return [min(int((scores >= STRICT).sum()), count), max(int((scores >= LOOSE).sum()), count)]


def crop(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """A square around a cell, a tenth larger than its box; beyond the picture its edge goes on."""
    centre, half = (box[:2] + box[2:]) / 2, float((box[2:] - box[:2]).max()) * MARGIN / 2
    x1, y1 = (round(float(v) - half) for v in centre)
    side = max(round(2 * half), 1)
    columns = np.clip(np.arange(x1, x1 + side), 0, image.shape[1] - 1)
    rows = np.clip(np.arange(y1, y1 + side), 0, image.shape[0] - 1)
    return image[rows][:, columns]


def _text(numbers: dict[str, Any]) -> str:
    if not numbers["cells"]:
        return "No blood cells were found. The detector expects a stained peripheral blood smear."
    kinds = numbers["white_cell_types"]
    typed = f" ({', '.join(counted(n, kind) for kind, n in kinds.items())})" if kinds else ""
    names = {"WBC": "white blood cell", "RBC": "red blood cell", "Platelets": "platelet"}
    parts = [counted(numbers[k], name) + (typed if k == "WBC" else "") for k, name in names.items() if k in numbers]
    parts += [f"{numbers[k]} {k}" for k in numbers if f"{k}_per_mm2" in numbers and k not in names]
    doubtful = [(k, numbers.get(f"{k}_range")) for k in names if k in numbers]
    spans = [f"{one[0]}–{one[1]} {names[k]}s" for k, one in doubtful if one and one[0] < one[1]]
    density = [f"{numbers[f'{k}_per_mm2']:.0f} {k}" for k in numbers if numbers.get(f"{k}_per_mm2") is not None]
    unsure = f" In doubt, by the scores: {', '.join(spans)}." if spans else ""
    return f"{', '.join(parts)}.{unsure}" + (f" Per mm²: {', '.join(density)}." if density else "")
