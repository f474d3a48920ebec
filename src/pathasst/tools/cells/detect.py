"""What the three cell tools share: guards against wrong pictures, the one detector, the scale, density.

Knows the detector's weights; knows no marker.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from pathasst import weights
from pathasst.errors import BadInput
from pathasst.records import Annotation
from pathasst.tools.cells.arguments import CellArguments
from pathasst.tools.images import is_dark_field, is_grey, require_side

if TYPE_CHECKING:
    from pathasst.tools.p2pnet.infer import Cells, Detector

WEIGHTS = "ki67-embedded"
LEAST_SIDE = 64


@lru_cache(maxsize=2)
def detector(id: str = WEIGHTS) -> Detector:
    """The detector, loaded once for all tools. Raises MissingWeights."""
    from pathasst.tools.p2pnet.infer import Detector, load

    return Detector(load(weights.path(id)))


def nucleus_px() -> float:
    """Radius of a typical nucleus in px at the detector's own scale."""
    from pathasst.tools.cells.size import REFERENCE

    return REFERENCE


def check(image: np.ndarray, what: str) -> None:
    """Raises BadInput for a picture that cannot be a brightfield DAB stain."""
    require_side(image, LEAST_SIDE, what)
    if is_dark_field(image):
        raise BadInput(f"{what} needs a brightfield picture; this one is dark, as fluorescence is.")
    if is_grey(image):
        raise BadInput(f"{what} needs a colour picture: this one is grey, or of an empty slide.")


def scale_of(image: np.ndarray, arguments: CellArguments) -> float:
    """The factor that brings the picture to the scale the detector was trained at; from µm/px, else from the size of nuclei."""
    from pathasst.tools.cells.size import estimate_scale

    settings = detector().settings
    if arguments.um_per_px and settings.um_per_px:
        return float(np.clip(arguments.um_per_px / settings.um_per_px, 0.1, 6))
    return estimate_scale(image)


def locate(image: np.ndarray, arguments: CellArguments, what: str) -> tuple[Cells, float]:
    """The cells of a picture, and the scale they were looked for at. Raises BadInput, MissingWeights."""
    check(image, what)
    scale = scale_of(image, arguments)
    return detector()(image, scale, arguments.min_score), scale


def density(count: int, image: np.ndarray, arguments: CellArguments) -> float | None:
    """Cells per mm² of the whole picture, when its scale is known."""
    if not arguments.um_per_px:
        return None
    return count / (image.shape[0] * image.shape[1] * arguments.um_per_px**2 * 1e-6)


def marks(cells: Cells, labels: list[str]) -> list[Annotation]:
    """A point for each cell. `labels`: one per cell."""
    return [
        Annotation(kind="point", label=label, coordinates=[round(float(x), 1), round(float(y), 1)], score=round(float(s), 3))
        for (x, y), s, label in zip(cells.points, cells.scores, labels, strict=True)
    ]


def numbers_of(image: np.ndarray, arguments: CellArguments, scale: float, **values: Any) -> dict[str, Any]:
    """A tool's numbers with those that every cell tool gives."""
    per_mm2 = density(values["cells"], image, arguments)
    rest = {"cells_per_mm2": None if per_mm2 is None else round(per_mm2, 1), "scale": round(scale, 3)}
    return {**values, **rest}
