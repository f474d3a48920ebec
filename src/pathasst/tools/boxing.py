"""What the tools that box cells share: the loaded detector, the scale, annotations.

Knows detectors' folders; knows no stain.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, TypeVar

import numpy as np
from pydantic import Field

from pathasst.core import weights
from pathasst.core.records import Annotation
from pathasst.tools.protocol import Arguments, Tool

if TYPE_CHECKING:
    from pathasst.nn.detector.boxes import Boxes
    from pathasst.nn.detector.infer import Detector

LEAST_SIDE = 48


class BoxArguments(Arguments):
    """How sure the detector must be, and the scale of the picture."""

    min_score: float | None = Field(
        default=None, ge=0.0, le=1.0, description="Least score of a cell that is reported; leave out for the model's own."
    )
    um_per_px: float | None = Field(default=None, gt=0.01, lt=10.0, description="Micrometres per pixel, if known.")


A = TypeVar("A", bound=BoxArguments)


class BoxTool(Tool[A]):
    """Base of the tools that box cells. Not a tool by itself.

    `model`: id of the weights, or a folder of the user's own (`pathasst train detector`).
    """

    what: ClassVar[str]  # for messages: what cannot be done with a wrong picture

    def __init__(self, model: str = "") -> None:
        self.model = model or next(iter(self.weights), "")

    def version(self) -> str:
        """The weights that answer, the user's own included."""
        return weights.version(self.model)

    @property
    def detector(self) -> Detector:
        """The detector, loaded once. Raises MissingWeights, BadInput."""
        return load(self.model)

    def factor(self, um_per_px: float | None) -> float | None:
        """What to resize the picture by before looking, where its scale and the model's are known; else None."""
        settings = self.detector.settings
        if not um_per_px or not settings.um_per_px:
            return None
        return float(np.clip((settings.scale or 1.0) * um_per_px / settings.um_per_px, 0.02, 6.0))

    def scale_for(self, image: np.ndarray, um_per_px: float | None) -> float | None:
        """The factor at which `run` looks at a picture; None for the detector's own."""
        return self.factor(um_per_px)


@lru_cache(maxsize=4)
def load(model: str) -> Detector:
    """A detector by id or folder, kept for all calls. Raises MissingWeights, BadInput."""
    from pathasst.nn.detector.infer import Detector

    return Detector.load(weights.path(model))


def marks(boxes: Boxes, labels: list[str]) -> list[Annotation]:
    """A box for each cell. `labels`: one per cell."""
    return [
        Annotation(kind="box", label=label, coordinates=[round(float(v), 1) for v in xyxy], score=round(float(score), 3))
        for xyxy, score, label in zip(boxes.xyxy, boxes.scores, labels, strict=True)
    ]


def counted(n: int, one: str, many: str = "") -> str:
    """`1 platelet`, `2 platelets`."""
    return f"{n} {one if n == 1 else many or one + 's'}"
