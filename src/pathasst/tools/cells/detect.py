"""What the three cell tools share: guards against wrong pictures, the one detector, the scale, density.

Knows the detector's weights; knows no marker.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from pathasst.core import weights
from pathasst.core.errors import BadInput
from pathasst.core.records import Annotation
from pathasst.imaging.pictures import per_mm2, require_brightfield
from pathasst.imaging.stains import looks_like_eosin
from pathasst.tools.cells.size import estimate_scale
from pathasst.tools.protocol import Arguments, Tool

if TYPE_CHECKING:
    from pathasst.nn.p2pnet.infer import CellDetector, Cells

WEIGHTS = "ki67-embedded"
LEAST_SIDE = 64
LEAST_CORRELATION = 0.2
"""Of neighbouring pixels; 102 immunohistochemistry fields at hand have 0.55 and more."""


class CellArguments(Arguments):
    """Scale of the picture, and how sure the detector must be."""

    um_per_px: float | None = Field(
        default=None, gt=0.02, lt=10.0, description="Micrometres per pixel, if known (20×: 0.5, 40×: 0.25)."
    )
    min_score: float | None = Field(
        default=None, ge=0.05, le=0.95, description="Least score of a cell that is counted; leave out for the model's own."
    )


class CellTool(Tool[CellArguments]):
    """Base of the cell tools: they differ in what they make of the cells. Not a tool by itself.

    `model`: id of the weights, or a folder of the user's own (`pathasst train points`), whose classes then decide.
    """

    arguments = CellArguments
    weights = (WEIGHTS,)
    required_look = ("stain", ("DAB immunohistochemistry",))

    def __init__(self, model: str = WEIGHTS) -> None:
        self.model = model

    def version(self) -> str:
        """The weights that answer, the user's own included."""
        return weights.version(self.model)

    def own_classes(self, classes: Sequence[str]) -> bool:
        """Whether the model is the user's own and was trained on (some of) the tool's very classes."""
        settings = detector(self.model).settings
        return self.model != WEIGHTS and set(settings.classes) - set(settings.ignored) <= set(classes)

    def locate(self, image: np.ndarray, arguments: CellArguments, what: str) -> tuple[Cells, float]:
        """The cells of a picture, and the scale they were looked for at. Raises BadInput, MissingWeights."""
        check(image, what)
        detector_ = detector(self.model)
        scale = scale_of(image, arguments, detector_.settings.um_per_px)
        return detector_(image, scale, arguments.min_score), scale

    def names(self, cells: Cells) -> list[str]:
        """The detector's class of each cell, by name."""
        classes = detector(self.model).settings.classes
        return [classes[c] for c in cells.classes]


@lru_cache(maxsize=2)
def detector(id: str = WEIGHTS) -> CellDetector:
    """The detector, loaded once for all tools. Raises MissingWeights."""
    from pathasst.nn.p2pnet.infer import CellDetector

    return CellDetector.load(weights.path(id))


def check(image: np.ndarray, what: str) -> None:
    """Raises BadInput for a picture that cannot be a brightfield DAB stain."""
    require_brightfield(image, LEAST_SIDE, what)
    if is_noise(image):
        raise BadInput(f"{what} needs a picture of cells; in this one neighbouring pixels have nothing in common, as in noise.")
    if looks_like_eosin(image):
        raise BadInput(f"{what} needs an immunohistochemistry picture (brown and blue); this one looks like H&E.")


def is_noise(image: np.ndarray) -> bool:
    """Whether neighbouring pixels are (nearly) uncorrelated, as in no picture that came through a lens."""
    grey = image.mean(axis=2)
    pairs = ((grey[:, 1:], grey[:, :-1]), (grey[1:], grey[:-1]))
    with np.errstate(invalid="ignore", divide="ignore"):  # a plain picture has no correlation; it is no noise
        return all(float(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < LEAST_CORRELATION for a, b in pairs)


def scale_of(image: np.ndarray, arguments: CellArguments, trained_at: float | None) -> float:
    """The factor that brings the picture to the scale the detector was trained at; from µm/px, else from the size of nuclei."""
    if arguments.um_per_px and trained_at:
        return float(np.clip(arguments.um_per_px / trained_at, 0.1, 6))
    return estimate_scale(image)


def marks(cells: Cells, labels: list[str]) -> list[Annotation]:
    """A point for each cell. `labels`: one per cell."""
    return [
        Annotation(kind="point", label=label, coordinates=[round(float(x), 1), round(float(y), 1)], score=round(float(s), 3))
        for (x, y), s, label in zip(cells.points, cells.scores, labels, strict=True)
    ]


def numbers_of(image: np.ndarray, arguments: CellArguments, scale: float, **values: Any) -> dict[str, Any]:
    """A tool's numbers with those that every cell tool gives."""
    dense = per_mm2(values["cells"], image, arguments.um_per_px)
    return {**values, "cells_per_mm2": dense, "scale": round(scale, 3)}
