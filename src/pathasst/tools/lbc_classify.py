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
WEIGHTS = "lbc-embedded"
FIELDS = "lbc-fields-embedded"
FAR = 1.5  # times the distance limit from which on no class of a field is stated
CELL_SIDE = 200  # px; a smaller picture is the crop of one cell
FIELD_SIDE = 2560  # px; a larger picture is cut into overlapping fields
TILE, OVERLAP = 2048, 256
LEAST_SIDE = 32


class LbcClassifyArguments(Arguments):
    """None: the whole picture is classified."""


class LbcClassify(Tool[LbcClassifyArguments]):
    """Which Bethesda class a cervical cytology picture belongs to.

    `model`: id of the weights, or a folder of the user's own (`pathasst train classifier`), whose classes then count for all.
    """

    name = "lbc_classify"
    card = ToolCard(
        purpose=(
            "Classifies a liquid-based cervical cytology picture into one of the six Bethesda classes "
            "(NILM, ASC-US, LSIL, ASC-H, HSIL, SCC). Not for tissue sections or other organs."
        ),
        expects="cervical cytology (Pap stain, liquid-based), 20–40×, one field or cell crop",
        classes=BETHESDA,
        licence="CC BY 4.0 (trained on Mendeley LBC and, as reported, CRIC)",
        scores=(
            "macro F1 (95 % interval): Mendeley LBC fields, four classes, 0.96 (0.93–0.98), 312 in five folds by original; CRIC "
            "cells, six classes, 0.28 (0.23–0.49), 340 held out"
        ),
        validated=True,
        limits="single cells are graded poorly; fields can only be NILM, LSIL, HSIL or SCC; two collections",
    )
    arguments = LbcClassifyArguments
    weights = (WEIGHTS, FIELDS)
    wanted = ("preparation", ("cervical cytology",))

    def __init__(self, model: str = WEIGHTS) -> None:
        self.model = model

    def version(self) -> str:
        """The weights that answer, the user's own included; of cells and of fields."""
        return super().version() if self.model == WEIGHTS else weights.version(self.model)

    def run(self, arguments: LbcClassifyArguments, image: np.ndarray) -> ToolResult:
        """See the card. Raises BadInput for grey, dark or tiny pictures."""
        from pathasst.imaging.drawing import annotate
        from pathasst.imaging.tiles import plan

        require_brightfield(image, LEAST_SIDE, "The classification")
        single = min(image.shape[:2]) <= CELL_SIDE
        size = TILE if max(image.shape[:2]) > FIELD_SIDE else FIELD_SIDE
        tiles = plan(image.shape[0], image.shape[1], size, OVERLAP)
        classes, probabilities, doubt = self._judge([image[t.window] for t in tiles], single)
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
        numbers: dict[str, Any] = {
            "class": None if doubt else classes[order[0]],
            "probability": round(float(mean[order[0]]), 3),
            "probabilities": {classes[i]: round(float(mean[i]), 3) for i in order},
            "judged_as": "cell" if single else "field",
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

    def _judge(self, pictures: list[np.ndarray], single: bool) -> tuple[tuple[str, ...], np.ndarray, str]:
        """Classes, probabilities [n, classes], and why no class is stated; empty where the likeliest is."""
        if self.model != WEIGHTS:
            model = classifier(self.model)
            return model.classes, model.predict(pictures), ""
        if single:
            return BETHESDA, self.probabilities(pictures, BETHESDA), ""
        from pathasst.nn import heads

        head = heads.load(FIELDS)
        judged = head(pictures)
        unlike = np.median(judged.distances) > FAR
        doubt = "The field is unlike those of liquid-based cytology that the classifier was fitted on." if unlike else ""
        return head.classes, judged.probabilities, doubt

    def predict(self, pictures: list[np.ndarray]) -> np.ndarray:
        """[n, classes of the model] float32: what `run` judges each whole picture by, a cell's crop or a field."""
        names = classifier(self.model).classes
        result = np.zeros((len(pictures), len(names)), np.float32)
        for n, picture in enumerate(pictures):
            classes, probabilities, _ = self._judge([picture], min(picture.shape[:2]) <= CELL_SIDE)
            result[n, [names.index(c) for c in classes]] = probabilities[0]
        return result

    def probabilities(self, pictures: list[np.ndarray], classes: tuple[str, ...]) -> np.ndarray:
        """[n, classes] float32: the classifier's probabilities of these classes, which sum to 1."""
        model = classifier(self.model)
        result = model.predict(pictures)[:, [model.classes.index(c) for c in classes]]
        return result / np.maximum(result.sum(1, keepdims=True), 1e-9)  # type: ignore[no-any-return]

    def _text(self, numbers: dict[str, Any], doubt: str) -> str:
        first, second = list(numbers["probabilities"].items())[:2]
        name = f" ({LONG[first[0]]})" if first[0] in LONG else ""
        parts = [f"{first[0]}{name}, probability {first[1]:.2f}; next {second[0]} {second[1]:.2f}."]
        if doubt:
            parts = [f"No class is stated; likeliest are {first[0]} {first[1]:.2f} and {second[0]} {second[1]:.2f}."]
        if numbers["fields"] > 1:
            parts.append(f"Mean of {numbers['fields']} overlapping fields.")
        if self.model != WEIGHTS:
            parts.append("The classes come from the user's own trained model.")
        elif numbers["judged_as"] == "cell":
            parts.append("Judged as the crop of a single cell, which this model does poorly: do not rely on the grade.")
        else:
            parts.append(
                "Judged as a field; of fields only NILM, LSIL, HSIL and SCC were labelled, so ASC-US and ASC-H are not given."
            )
        return " ".join(parts)


@lru_cache(maxsize=4)
def classifier(model: str) -> Classifier:
    """A classifier by id or folder, kept for all calls. Raises MissingWeights, BadInput."""
    from pathasst.nn.classifier import Classifier

    return Classifier.load(model)
