"""The cervical cytology classifier: the Bethesda class of a field or of a single cell (paper, model zoo 1)."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from pathasst.core import weights
from pathasst.core.records import Annotation, Picture, ToolResult
from pathasst.imaging.pictures import require_brightfield
from pathasst.tools.protocol import Arguments, Tool, ToolCard

if TYPE_CHECKING:
    from pathasst.nn.classifier import Classifier

BETHESDA = ("NILM", "ASC-US", "LSIL", "ASC-H", "HSIL", "SCC")
"""The six classes of The Bethesda System that the paper's models use, from normal to carcinoma."""
LONG = {
    "NILM": "negative for intraepithelial lesion or malignancy",
    "ASC-US": "atypical squamous cells of undetermined significance",
    "LSIL": "low-grade squamous intraepithelial lesion",
    "ASC-H": "atypical squamous cells, cannot exclude a high-grade lesion",
    "HSIL": "high-grade squamous intraepithelial lesion",
    "SCC": "squamous cell carcinoma",
}
GRADES = ("normal", "low grade", "high grade")
"""What one cell by itself can be told to be: NILM; ASC-US or LSIL; ASC-H, HSIL or SCC."""
GRADE_OF = dict(zip(BETHESDA, ("normal", "low grade", "low grade", "high grade", "high grade", "high grade"), strict=True))
CELLS = "lbc-cells-embedded"
FIELDS = "lbc-fields-embedded"
FAR = 1.5  # times the distance limit from which on no class of a field is stated
CELL_SIDE = 200  # px; a smaller picture is the crop of one cell
FIELD_SIDE = 2560  # px; a larger picture is cut into overlapping fields
TILE, OVERLAP = 2048, 256
LEAST_SIDE = 32


class LbcClassifyArguments(Arguments):
    """None: the whole picture is classified."""


class LbcClassify(Tool[LbcClassifyArguments]):
    """Which Bethesda class a field of cervical cytology belongs to, or which grade the crop of one cell has.

    `model`: a folder of the user's own (`pathasst train classifier`), whose classes then count for all; empty: the shipped ones.
    """

    name = "lbc_classify"
    card = ToolCard(
        purpose=(
            "Classifies a cervical cytology picture: a field into NILM, LSIL, HSIL or SCC, the crop of one cell into normal, "
            "low grade or high grade. Says so where it cannot tell. Not for tissue sections or other organs."
        ),
        expects="cervical cytology (Pap stain, liquid-based), 20–40×, one field or cell crop",
        classes=BETHESDA,
        licence="research use only (Mendeley LBC, CC BY 4.0; CRIC, CC BY 4.0 as reported; Herlev, for research as reported)",
        scores=(
            "macro F1 (95 % interval): Mendeley LBC fields, four classes, 0.96 (0.93–0.98), 312 in five folds by original; "
            "single cells, three grades, 0.73 (0.69–0.75), 2,084 of Herlev and CRIC in five folds by smear or field; it states "
            "0.47 of these, 0.95 of them right"
        ),
        validated=True,
        limits=(
            "half of the single cells get no grade, and those of a third laboratory mostly none; fields can only be NILM, LSIL, "
            "HSIL or SCC"
        ),
    )
    arguments = LbcClassifyArguments
    weights = (FIELDS, CELLS)
    required_look = ("preparation", ("cervical cytology",))

    def __init__(self, model: str = "") -> None:
        self.model = model

    def version(self) -> str:
        """The weights that answer, the user's own included; of cells and of fields."""
        return weights.version(self.model) if self.model else super().version()

    def classes(self, cell: bool) -> tuple[str, ...]:
        """What a picture of one cell, or a field, can be told to be."""
        if self.model:
            return classifier(self.model).classes
        from pathasst.nn import heads

        return GRADES if cell else heads.load(FIELDS).classes

    def run(self, arguments: LbcClassifyArguments, image: np.ndarray) -> ToolResult:
        """See the card. Raises BadInput for grey, dark or tiny pictures."""
        from pathasst.imaging.drawing import annotate
        from pathasst.imaging.tiles import plan

        require_brightfield(image, LEAST_SIDE, "The classification")
        cell = is_cell(image)
        size = TILE if max(image.shape[:2]) > FIELD_SIDE else FIELD_SIDE
        tiles = plan(image.shape[0], image.shape[1], size, OVERLAP)
        classes = self.classes(cell)
        probabilities, doubt = self._judge([image[t.window] for t in tiles], cell)
        mean = probabilities.mean(0)
        order = np.argsort(-mean)
        marks = [
            Annotation(
                kind="box",
                label=classes[int(p.argmax())],
                coordinates=[float(v) for v in (t.x, t.y, t.x + t.width, t.y + t.height)],
                score=round(float(p.max()), 3),
            )
            for t, p in zip(tiles, probabilities, strict=True)
        ]
        stated = None if doubt else classes[order[0]]
        numbers: dict[str, Any] = {
            "class": None if cell and not self.model else stated,
            "grade": stated if stated in GRADES else GRADE_OF.get(stated or ""),
            "probability": round(float(mean[order[0]]), 3),
            "probabilities": {classes[i]: round(float(mean[i]), 3) for i in order},
            "judged_as": "cell" if cell else "field",
            "fields": len(tiles),
        }
        if len(tiles) > 1:
            labels = [m.label for m in marks]
            numbers["fields_by_class"] = {name: labels.count(name) for name in classes if name in labels}
        pictures = [Picture(name="class", image=annotate(image, marks))]
        return ToolResult(
            name=self.name,
            text=self._text(numbers, doubt),
            numbers=numbers,
            annotations=[] if doubt else marks,
            pictures=[] if doubt else pictures,
            warnings=[doubt] if doubt else [],
        )

    def _judge(self, pictures: list[np.ndarray], cell: bool) -> tuple[np.ndarray, str]:
        """Probabilities [n, classes] of cells or fields, and why none is stated; empty where the likeliest is."""
        if self.model:
            return classifier(self.model).predict(pictures), ""
        from pathasst.nn import heads

        head = heads.load(CELLS if cell else FIELDS)
        output = head(pictures)
        unlike = float(np.median(output.distances)) > (1.0 if cell else FAR)
        if cell:
            stated = head.statements(output)
            doubt = UNLIKE.format("cell", "the crops of single cells") if unlike else "" if all(stated) else UNSURE
        else:
            doubt = UNLIKE.format("field", "those of liquid-based cytology") if unlike else ""
        return output.probabilities, doubt

    def predict(self, pictures: list[np.ndarray]) -> np.ndarray:
        """[n, classes] float32: what `run` judges each whole picture by. Either all are crops of one cell, or none is."""
        cell = is_cell(pictures[0])
        return np.concatenate([self._judge([p], cell)[0] for p in pictures])

    def _text(self, numbers: dict[str, Any], doubt: str) -> str:
        first, second = list(numbers["probabilities"].items())[:2]
        name = f" ({LONG[first[0]]})" if first[0] in LONG else ""
        parts = [f"{first[0]}{name}, probability {first[1]:.2f}; next {second[0]} {second[1]:.2f}."]
        cell, what = numbers["judged_as"] == "cell", "grade" if numbers["judged_as"] == "cell" else "class"
        if doubt:
            parts = [f"No {what} is stated; likeliest are {first[0]} {first[1]:.2f} and {second[0]} {second[1]:.2f}."]
        if numbers["fields"] > 1:
            parts.append(f"Mean of {numbers['fields']} overlapping fields.")
        if self.model:
            parts.append("The classes come from the user's own trained model.")
        elif cell:
            parts.append("Judged as the crop of a single cell, of which no Bethesda class is given.")
        else:
            parts.append(
                "Judged as a field; of fields only NILM, LSIL, HSIL and SCC were labelled, so ASC-US and ASC-H are not given."
            )
        return " ".join(parts)


UNLIKE = "The {} is unlike {} that the classifier was fitted on."
UNSURE = "The cell cannot be graded with certainty, so that an abnormal cell is not excluded."


def is_cell(image: np.ndarray) -> bool:
    """Whether a picture is so small that it is taken for the crop of one cell."""
    return min(image.shape[:2]) <= CELL_SIDE


@lru_cache(maxsize=4)
def classifier(model: str) -> Classifier:
    """A classifier by id or folder, kept for all calls. Raises MissingWeights, BadInput."""
    from pathasst.nn.classifier import Classifier

    return Classifier.load(model)
