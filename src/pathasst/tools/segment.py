"""The segmentation tool: masks, areas and counts (paper, model zoo 8). Knows arguments and results; `sam` knows the model."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from pathasst.core import progress, weights
from pathasst.core.errors import BadInput
from pathasst.core.records import Annotation, Picture, ToolResult
from pathasst.imaging import rle
from pathasst.imaging.pictures import encode_png, require_side
from pathasst.tools.protocol import Arguments, Tool, ToolCard

if TYPE_CHECKING:
    from pathasst.nn.sam.model import Mask, Sam

MAX_SIDE = 4096
"""px; of a larger picture the part around the prompt is looked at, or overlapping tiles."""
TILE, OVERLAP = 2048, 256
WEIGHTS = "mobilesam"


class SegmentArguments(Arguments):
    """Points or a box to segment; neither: everything in the picture."""

    points: list[tuple[float, float]] = Field(default=[], max_length=64, description="x, y in px inside the one object wanted.")
    not_points: list[tuple[float, float]] = Field(default=[], max_length=64, description="x, y in px outside of it.")
    box: tuple[float, float, float, float] | None = Field(default=None, description="x1, y1, x2, y2 in px around the object.")
    um_per_px: float | None = Field(default=None, gt=0.02, lt=10.0, description="Micrometres per pixel, if known.")


class Segment(Tool[SegmentArguments]):
    """Masks of the object at a point or in a box, or of everything.

    `model`: id of the weights (`mobilesam`, `sam-vit-huge`), or a folder with a SAM in transformers' layout.
    """

    name = "segment"
    card = ToolCard(
        purpose=(
            "Outlines objects in any picture: the one at given points or in a given box, or everything when neither is given; "
            "returns areas and counts. It does not say what an object is."
        ),
        expects="any picture, at least 32 px",
        scores=(
            "MobileSAM as it is, mean IoU (95 % interval) when asked by a box, and by a point inside: 164 nuclei of PanNuke "
            "(10 pictures) 0.78 (0.77–0.79) and 0.55 (0.43–0.63); 49 stained lymphocytes of LYON19 (7 pictures) 0.77 (0.70–0.82) "
            "and 0.52 (0.47–0.60)"
        ),
        licence="Apache-2.0 (MobileSAM)",
        limits="finds visible edges, not tissue types; masks of crowded nuclei are incomplete; everything mode is no count",
    )
    arguments = SegmentArguments
    weights = (WEIGHTS,)

    def __init__(self, model: str = WEIGHTS) -> None:
        self.model = model

    def version(self) -> str:
        """The weights that answer, the user's own included."""
        return weights.version(self.model)

    @cached_property
    def sam(self) -> Sam:
        """Loaded on first use. Raises MissingWeights, BadInput."""
        from pathasst.nn.sam.model import Sam

        return Sam(weights.path(self.model))

    def run(self, arguments: SegmentArguments, image: np.ndarray) -> ToolResult:
        """See the card. Raises BadInput for a picture too small, and for prompts outside of it or too far apart."""
        require_side(image, 32, "Segmentation")
        _check_prompts(arguments, image)
        prompted = arguments.box is not None or bool(arguments.points)
        masks = self._prompted(arguments, image) if prompted else self._everything(image)
        return _result(masks, image, arguments, self.sam.name)

    def _prompted(self, arguments: SegmentArguments, image: np.ndarray) -> list[Mask]:
        from pathasst.nn.sam.model import select_masks

        x, y, x2, y2 = part_around(arguments, image)
        points = np.array([*arguments.points, *arguments.not_points], np.float32).reshape(-1, 2) - [x, y]
        inside = np.arange(len(points)) < len(arguments.points)
        box = None if arguments.box is None else np.array(arguments.box, np.float32) - [x, y, x, y]
        embedding = self.sam.set_image(image[y:y2, x:x2])
        masks = self.sam.predict(embedding, points, inside, box)
        return [m.shift(x, y) for m in select_masks(masks, (y2 - y) * (x2 - x))]

    def _everything(self, image: np.ndarray) -> list[Mask]:
        """All objects; in tiles, each counts where its middle lies in the tile's core."""
        from pathasst.imaging.tiles import plan

        height, width = image.shape[:2]
        tiles = plan(height, width, TILE if max(height, width) > MAX_SIDE else MAX_SIDE, OVERLAP)
        masks = []
        for n, tile in enumerate(tiles):
            progress.step(n, len(tiles))
            x1, y1, x2, y2 = tile.core
            for mask in self.sam.everything(self.sam.set_image(image[tile.window])):
                one = mask.shift(tile.x, tile.y)
                middle = (one.box[0] + one.box[2]) / 2, (one.box[1] + one.box[3]) / 2
                if x1 <= middle[0] < x2 and y1 <= middle[1] < y2:
                    masks.append(one)
        return sorted(masks, key=lambda m: -m.score)


def part_around(arguments: SegmentArguments, image: np.ndarray) -> tuple[int, int, int, int]:
    """x1 y1 x2 y2 of what the model looks at: the picture, or the MAX_SIDE px around the prompt of a larger one.

    Raises BadInput when the prompt does not fit into that.
    """
    height, width = image.shape[:2]
    if max(height, width) <= MAX_SIDE:
        return 0, 0, width, height
    box = arguments.box or ()
    spots = np.array([*arguments.points, *arguments.not_points, box[:2] or arguments.points[0], box[2:] or arguments.points[0]])
    low, high = spots.min(0), spots.max(0)
    if (high - low).max() > MAX_SIDE * 3 / 4:
        raise BadInput(f"of a picture this large, points and box must lie within {MAX_SIDE * 3 // 4} px; cut out the part.")
    size = np.minimum([width, height], MAX_SIDE)
    x, y = (int(v) for v in np.clip((low + high) / 2 - size / 2, 0, np.array([width, height]) - size))
    return x, y, x + int(size[0]), y + int(size[1])


def _check_prompts(arguments: SegmentArguments, image: np.ndarray) -> None:
    height, width = image.shape[:2]
    outside = [p for p in [*arguments.points, *arguments.not_points] if not (0 <= p[0] <= width and 0 <= p[1] <= height)]
    if outside:
        raise BadInput(f"the point {outside[0]} lies outside of the picture of {width}×{height} px.")
    if arguments.not_points and not arguments.points and arguments.box is None:
        raise BadInput("not_points alone say nothing of the object; give points or a box too.")
    if arguments.box is not None:
        x1, y1, x2, y2 = arguments.box
        if not (0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height):
            raise BadInput(f"the box must be x1 < x2 ≤ {width} and y1 < y2 ≤ {height} px; it is {arguments.box}.")


def _result(masks: list[Mask], image: np.ndarray, arguments: SegmentArguments, model: str) -> ToolResult:
    height, width = image.shape[:2]
    union, annotations = np.zeros((height, width), bool), []
    for mask in masks:
        x1, y1, x2, y2 = mask.box
        union[y1:y2, x1:x2] |= mask.pixels
        annotations.append(_mark(mask, (height, width)))
    areas = [int(m.pixels.sum()) for m in masks]
    numbers: dict[str, Any] = {
        "count": len(areas),
        "areas_px": areas,
        "covered_percent": round(100 * float(union.mean()), 2),
        "median_area_px": float(np.median(areas)) if areas else None,
    }
    if arguments.um_per_px:
        numbers["areas_um2"] = [round(a * arguments.um_per_px**2, 2) for a in areas]
    pictures = [Picture(name="segmentation", image=_mask_picture(masks, image, annotations))]
    pictures.append(Picture(name="mask", image=encode_png(union.astype(np.uint8) * 255)))
    text = _text(numbers, arguments, model)
    return ToolResult(name="segment", text=text, numbers=numbers, annotations=annotations, pictures=pictures)


def _mark(mask: Mask, shape: tuple[int, int]) -> Annotation:
    counts, corners = rle.encode(mask.pixels, mask.x, mask.y, shape), [float(v) for v in mask.box]
    return Annotation(kind="mask", label="object", coordinates=corners, score=round(mask.score, 3), rle=counts)


def _mask_picture(masks: list[Mask], image: np.ndarray, annotations: list[Annotation]) -> bytes:
    """The picture with its masks; a very large one reduced, as nobody looks at each of its pixels."""
    from pathasst.imaging.drawing import annotate

    if max(image.shape[:2]) <= MAX_SIDE:
        return annotate(image, annotations, per_object=True)
    import cv2

    step = -(-max(image.shape[:2]) // TILE)
    small = cv2.resize(image, None, fx=1 / step, fy=1 / step, interpolation=cv2.INTER_AREA)
    height, width = small.shape[:2]
    shrunk = []
    for m in masks:
        x, y, pixels = m.x // step, m.y // step, m.pixels[::step, ::step]
        shrunk.append(_mark(replace(m, x=x, y=y, pixels=pixels[: height - y, : width - x]), (height, width)))
    return annotate(small, shrunk, per_object=True)


def _text(numbers: dict[str, Any], arguments: SegmentArguments, model: str) -> str:
    n = numbers["count"]
    if not n:
        return f"Segmentation ({model}) found no object."
    scale = arguments.um_per_px
    if arguments.points or arguments.box:
        area = f"{numbers['areas_px'][0]} px" + (f" = {numbers['areas_um2'][0]:.1f} µm²" if scale else "")
        return f"Segmentation ({model}) outlined the object: area {area}, {numbers['covered_percent']} % of the picture."
    median = f"{numbers['median_area_px']:.0f} px" + (f" = {numbers['median_area_px'] * scale**2:.1f} µm²" if scale else "")
    return (
        f"Segmentation ({model}) outlined {n} objects, median area {median}, together {numbers['covered_percent']} % of the "
        "picture. It asked at a grid of points: small objects between them are missed, so this is no count. It does not know "
        "what they are."
    )
