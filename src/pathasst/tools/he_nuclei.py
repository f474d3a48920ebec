"""The nuclei tool: outlines, counts, sizes and density of nuclei in H&E. `nn.nuclei` knows the model; the paper has no such."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from pathasst.core import weights
from pathasst.core.records import Annotation, Picture, ToolResult
from pathasst.imaging import rle
from pathasst.imaging.pictures import per_mm2, require_brightfield
from pathasst.tools import guard
from pathasst.tools.protocol import Arguments, Tool, ToolCard

if TYPE_CHECKING:
    from pathasst.nn.nuclei.infer import Nuclei, Segmenter

WEIGHTS = "nuclei-embedded"
LEAST_SIDE = 64
NAME = "nucleus"
MADE_FOR = (("preparation", ("tissue section",)), ("stain", ("H&E", "another stain")))
"""Questions of the look and the classes that the tool takes; smears and cytology are violet, too."""


class HeNucleiArguments(Arguments):
    """Scale of the picture, and how sure the network must be."""

    um_per_px: float | None = Field(
        default=None, gt=0.02, lt=10.0, description="Micrometres per pixel, if known (20×: 0.5, 40×: 0.25)."
    )
    min_score: float | None = Field(
        default=None, ge=0.05, le=0.99, description="Least score of a nucleus that is counted; leave out for all."
    )


class HeNuclei(Tool[HeNucleiArguments]):
    """Outlines from the embedded network.

    `model`: id of the weights, or a folder of the user's own (`pathasst train nuclei`).
    """

    name = "he_nuclei"
    card = ToolCard(
        purpose=(
            "Outlines and counts the nuclei in an H&E tissue section and gives their sizes and their density. It does not say "
            "which cells they are of. Not for immunohistochemistry, cytology or blood smears."
        ),
        expects="H&E tissue section, 20–40×",
        classes=(NAME,),
        scores=(
            "F1 at IoU 0.5 on unseen patients or images (95 % interval): MoNuSeg 0.677 (0.591–0.757), 6 tiles, 2,541 nuclei; "
            "CoNSeP 0.444 (0.359–0.551), 25 patches; Data Science Bowl 0.774 (0.724–0.806), 15 fields; on a source never seen "
            "0.638 (0.583–0.695); the count of a picture is off by 9 to 26 % in the mean"
        ),
        licence="research use only (trained on MoNuSeg, CC BY-NC-SA 4.0, with CoNSeP and BBBC038)",
        validated=True,
        limits="small network, trained on three collections; crowded, pale and very long nuclei are merged, split or missed",
    )
    arguments = HeNucleiArguments
    weights = (WEIGHTS,)
    required_look = ("stain", ("H&E",))

    def __init__(self, model: str = WEIGHTS) -> None:
        self.model = model

    def version(self) -> str:
        """The weights that answer, the user's own included."""
        return weights.version(self.model)

    def _looked_at(self, image: np.ndarray | None) -> list[str]:
        """Doubts that the picture is an H&E section. Raises BadInput for other preparations and immunohistochemistry; what
        has another stain, such as haematoxylin alone, is outlined with a warning."""
        if image is None or self.model != WEIGHTS or not guard.on():
            return []
        view = guard.look(image)
        doubts = [d for question, kinds in MADE_FOR for d in guard.judged(view, question, kinds, self.name)]
        if not doubts and view.answers["stain"].probabilities["H&E"] < guard.DOUBT:
            return ["The picture hardly looks like H&E."]
        return list(dict.fromkeys(doubts))

    def run(self, arguments: HeNucleiArguments, image: np.ndarray) -> ToolResult:
        """See the card. Raises BadInput for grey, dark or tiny pictures, MissingWeights."""
        from pathasst.imaging.drawing import annotate

        require_brightfield(image, LEAST_SIDE, "Outlining nuclei")
        nuclei = segmenter(self.model)(image, arguments.um_per_px)
        annotations = marks(nuclei, arguments.min_score or 0.0)
        sizes = whole_areas(annotations, image.shape[:2])
        numbers = measured(annotations, sizes, image, arguments.um_per_px)
        numbers["scale"] = round(nuclei.scale, 3)
        pictures = [Picture(name="nuclei", image=annotate(image, annotations))]
        return ToolResult(name=self.name, text=text(numbers), numbers=numbers, annotations=annotations, pictures=pictures)


@lru_cache(maxsize=2)
def segmenter(model: str = WEIGHTS) -> Segmenter:
    """The network, loaded once. Raises MissingWeights, BadInput."""
    from pathasst.nn.nuclei.infer import Segmenter

    return Segmenter.load(weights.path(model))


def marks(nuclei: Nuclei, min_score: float = 0.0) -> list[Annotation]:
    """A mask for each nucleus of at least a score, from left to right and top to bottom as they are numbered."""
    from scipy.ndimage import find_objects

    shape, annotations = nuclei.labels.shape, []
    for number, window in enumerate(find_objects(nuclei.labels), start=1):
        score = float(nuclei.scores[number - 1])
        if window is None or score < min_score:
            continue
        rows, columns = window
        part = nuclei.labels[window] == number
        counts = rle.encode(part, columns.start, rows.start, (shape[0], shape[1]))
        corners = [float(v) for v in (columns.start, rows.start, columns.stop, rows.stop)]
        annotations.append(Annotation(kind="mask", label=NAME, coordinates=corners, score=round(score, 3), rle=counts))
    return annotations


def whole_areas(annotations: list[Annotation], shape: tuple[int, ...]) -> np.ndarray:
    """Areas in px of the nuclei that the picture's edge does not cut."""
    height, width = shape[:2]
    inside = [a for a in annotations if a.coordinates[0] > 0 and a.coordinates[1] > 0]
    inside = [a for a in inside if a.coordinates[2] < width and a.coordinates[3] < height]
    return np.array([rle.area(a.rle) for a in inside], float)


def measured(annotations: list[Annotation], sizes: np.ndarray, image: np.ndarray, um_per_px: float | None) -> dict[str, Any]:
    """Counts and sizes by name; µm² and mm² only where the scale is known."""
    covered = sum(rle.area(a.rle) for a in annotations) / (image.shape[0] * image.shape[1])
    numbers: dict[str, Any] = {
        "nuclei": len(annotations),
        "nuclei_per_mm2": per_mm2(len(annotations), image, um_per_px),
        "covered_percent": round(100 * covered, 2),
    }
    values = (np.median(sizes), sizes.mean(), sizes.std()) if len(sizes) else (None, None, None)
    for name, value in zip(("median_area", "mean_area", "sd_area"), values, strict=True):
        numbers[f"{name}_px"] = None if value is None else round(float(value), 1)
        numbers[f"{name}_um2"] = None if value is None or not um_per_px else round(float(value) * um_per_px**2, 1)
    return numbers


def text(numbers: dict[str, Any]) -> str:
    """The result in words."""
    n = numbers["nuclei"]
    if not n:
        return "No nuclei were found. The network expects an H&E tissue section."
    parts = [f"{n} nuclei, {numbers['covered_percent']} % of the picture."]
    if numbers["nuclei_per_mm2"] is not None:
        parts.append(f"Density {numbers['nuclei_per_mm2']:.0f} nuclei/mm².")
    if numbers["median_area_um2"] is not None:
        parts.append(f"Area: median {numbers['median_area_um2']} µm², mean {numbers['mean_area_um2']} µm².")
    elif numbers["median_area_px"] is not None:
        parts.append(f"Median area {numbers['median_area_px']:.0f} px; in µm² only with the scale of the picture.")
    parts.append(ELSEWHERE)
    return " ".join(parts)


ELSEWHERE = (
    "On unseen patients the count of a picture was off by 13 to 27 % in the mean, and a third of the outlines or more were wrong."
)
