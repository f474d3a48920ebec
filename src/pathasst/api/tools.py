"""The specialist models as functions: a picture in, a typed result out. Models load once per process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pathasst.core.errors import BadInput
from pathasst.core.records import Annotation, Hit, ToolCall, ToolResult

if TYPE_CHECKING:
    import numpy as np
    import supervision as sv
    from PIL.Image import Image

    from pathasst.api.images import ImageLike
    from pathasst.tools.protocol import Tool, ToolCard

MOST_MASK_PIXELS = 1 << 30


@dataclass(frozen=True)
class Result:
    """What a tool found in a picture.

    `raw` is the tool's own result; `image` the picture it ran on, H×W×3 uint8 RGB (None for tools that take no picture).
    """

    raw: ToolResult
    image: np.ndarray | None = None

    @property
    def text(self) -> str:
        """The result in words."""
        return self.raw.text

    @property
    def numbers(self) -> dict[str, Any]:
        """Counts, shares and sizes by name; units stand in the names."""
        return self.raw.numbers

    @property
    def warnings(self) -> list[str]:
        """Why the tool doubts this result, as whole sentences."""
        return self.raw.warnings

    @property
    def annotations(self) -> list[Annotation]:
        """What was found, one object each, in px of the picture."""
        return self.raw.annotations

    @cached_property
    def objects(self) -> sv.Detections:
        """What was found as `supervision.Detections`: xyxy float32 [n, 4] px, confidence [n], class_id [n], masks of masks.

        Masks are whole pictures each: where together they would have more than MOST_MASK_PIXELS, they are left out, and `geojson`
        has them as polygons.

        A point is a box of 2 px around it. Class names are in `data["class_name"]`.
        """
        import numpy as np
        import supervision as sv

        from pathasst.imaging import rle

        marks = self.annotations
        if not marks:
            return sv.Detections.empty()
        names = sorted({mark.label for mark in marks})
        boxes = [c if len(c) == 4 else (c[0] - 1, c[1] - 1, c[0] + 1, c[1] + 1) for c in (m.coordinates for m in marks)]
        masks = None
        height, width = self.image.shape[:2] if self.image is not None else (0, 0)
        if self.image is not None and all(mark.rle for mark in marks) and len(marks) * height * width <= MOST_MASK_PIXELS:
            masks = np.stack([rle.decode(mark.rle, height, width) for mark in marks])
        return sv.Detections(
            xyxy=np.array(boxes, np.float32),
            mask=masks,
            confidence=np.array([mark.score for mark in marks], np.float32),
            class_id=np.array([names.index(mark.label) for mark in marks]),
            data={"class_name": np.array([mark.label for mark in marks])},
        )

    @property
    def picture(self) -> Image | None:
        """The first picture the tool made (the annotated input, or what it generated), as a PIL image; None without one."""
        from PIL import Image as Pil

        from pathasst.imaging.pictures import load

        return Pil.fromarray(load(self.raw.pictures[0].image)) if self.raw.pictures else None

    def geojson(self) -> dict[str, Any]:
        """What was found as a GeoJSON FeatureCollection that QuPath 0.5 or later opens; coordinates in px of the picture."""
        from pathasst.imaging.geojson import feature_collection

        shape = (self.image.shape[0], self.image.shape[1]) if self.image is not None else None
        return feature_collection(self.annotations, shape)

    def __repr__(self) -> str:
        return f"<{self.raw.name}: {self.text}>"


def run(name: str, image: ImageLike | None = None, *, model: str | None = None, **arguments: Any) -> Result:
    """Run a tool by name. The functions below are this one with their arguments written out.

    `model`: id or folder of other weights, such as your own. `arguments`: those of the tool; None leaves one out.

    Raises BadSettings for an unknown tool, BadInput for wrong arguments or a picture that the tool cannot work on, MissingWeights
    when its weights are not here (`pathasst models pull`).
    """
    from pathasst.api.images import as_array

    tool = _tool(name, model)
    pixels = as_array(image) if image is not None else None
    present = {key: value for key, value in arguments.items() if value is not None}
    result = tool(ToolCall(name=name, arguments=present), pixels)
    if result.error:
        raise BadInput(result.error)
    return Result(result, pixels)


_TOOLS: dict[tuple[str, str | None], Tool[Any]] = {}


def _tool(name: str, model: str | None) -> Tool[Any]:
    """The tool, made once per process. Raises BadSettings, MissingWeights."""
    from pathasst.tools.registry import make

    if (name, model) not in _TOOLS:
        _TOOLS[name, model] = make(name, model)
    return _TOOLS[name, model]


def names() -> list[str]:
    """The tools' names: the paper's model zoo in its order, what came after, and the literature."""
    from pathasst.tools.registry import SPECIALISTS

    return list(SPECIALISTS)


def card(name: str) -> ToolCard:
    """What a tool is for, what it expects, its measured scores and its limits. Raises BadSettings for an unknown name."""
    from pathasst.tools.registry import tool_class

    return tool_class(name).card


def ki67_cells(
    image: ImageLike, *, um_per_px: float | None = None, min_score: float | None = None, model: str | None = None
) -> Result:
    """Ki67-positive and -negative tumour cells of an immunohistochemistry field (model zoo 7).

    `um_per_px`: scale of the picture in µm per px; None: estimated from the nuclei. `min_score`: least score of a cell that
    counts, 0.05–0.95. `numbers["index_percent"]` is the labelling index. Raises BadInput, MissingWeights.

    >>> result = pathasst.tools.ki67_cells("field.png", um_per_px=0.25)
    >>> result.numbers["index_percent"], result.warnings
    """
    return run("ki67_cells", image, model=model, um_per_px=um_per_px, min_score=min_score)


def her2_cells(
    image: ImageLike, *, um_per_px: float | None = None, min_score: float | None = None, model: str | None = None
) -> Result:
    """Tumour cells by membrane staining for HER2, with a score by rule (model zoo 5); not validated for breast.

    Arguments as for `ki67_cells`.
    """
    return run("her2_cells", image, model=model, um_per_px=um_per_px, min_score=min_score)


def pdl1_cells(
    image: ImageLike, *, um_per_px: float | None = None, min_score: float | None = None, model: str | None = None
) -> Result:
    """PD-L1-positive and -negative cells, with the tumour proportion score by rule (model zoo 6).

    Arguments as for `ki67_cells`.
    """
    return run("pdl1_cells", image, model=model, um_per_px=um_per_px, min_score=min_score)


def blood_cells(
    image: ImageLike, *, white_cell_types: bool = False, min_score: float | None = None, model: str | None = None
) -> Result:
    """White cells, red cells and platelets of a blood smear, boxed and counted (model zoo 3).

    `white_cell_types`: also name the type of each white cell.

    >>> pathasst.tools.blood_cells("smear.jpg").numbers
    """
    return run("blood_cells", image, model=model, white_cell_types=white_cell_types or None, min_score=min_score)


def lbc_classify(image: ImageLike, *, model: str | None = None) -> Result:
    """The Bethesda class of a cervical cytology field or cell (model zoo 1)."""
    return run("lbc_classify", image, model=model)


def lbc_detect(image: ImageLike, *, min_score: float | None = None, model: str | None = None) -> Result:
    """Abnormal cells of a cervical cytology field, boxed (model zoo 2)."""
    return run("lbc_detect", image, model=model, min_score=min_score)


def lbc_generate(
    cell_class: str,
    *,
    nuclear_enlargement: float | None = None,
    irregular_nucleus: bool = False,
    hyperchromasia: bool = False,
    koilocytic_cytoplasm: bool = False,
    count: int = 1,
    seed: int = 0,
    model: str | None = None,
) -> Result:
    """Synthetic pictures of a cervical cell of a Bethesda class (model zoo 4); they are marked as synthetic.

    `nuclear_enlargement`: size of the nucleus against a normal intermediate cell's, 1–6. `count`: 1–8 pictures.
    """
    return run(
        "lbc_generate",
        model=model,
        cell_class=cell_class,
        nuclear_enlargement=nuclear_enlargement,
        irregular_nucleus=irregular_nucleus or None,
        hyperchromasia=hyperchromasia or None,
        koilocytic_cytoplasm=koilocytic_cytoplasm or None,
        count=count,
        seed=seed,
    )


def segment(
    image: ImageLike,
    *,
    points: Sequence[tuple[float, float]] = (),
    not_points: Sequence[tuple[float, float]] = (),
    box: tuple[float, float, float, float] | None = None,
    um_per_px: float | None = None,
    model: str | None = None,
) -> Result:
    """The outline of the object at `points` or in `box` (x1 y1 x2 y2), in px; without both, of everything (model zoo 8)."""
    return run(
        "segment",
        image,
        model=model,
        points=list(points) or None,
        not_points=list(not_points) or None,
        box=box,
        um_per_px=um_per_px,
    )


def he_nuclei(
    image: ImageLike, *, um_per_px: float | None = None, min_score: float | None = None, model: str | None = None
) -> Result:
    """Nuclei of an H&E section, each with its outline; their count, sizes and density.

    `um_per_px`: scale of the picture in µm per px; None: read from the size of the nuclei, and no µm² are given.
    `min_score`: least score of a nucleus, 0.05–0.99. `geojson()` has the outlines as polygons. Raises BadInput, MissingWeights.

    >>> result = pathasst.tools.he_nuclei("colon.png", um_per_px=0.25)
    >>> result.numbers["nuclei_per_mm2"], result.numbers["median_area_um2"]
    """
    return run("he_nuclei", image, model=model, um_per_px=um_per_px, min_score=min_score)


def similar_cases(image: ImageLike, *, k: int = 3, model: str | None = None) -> Result:
    """The `k` (1–10) most similar cases of the atlas, with picture, diagnosis, link and licence; evidence, no diagnosis.

    `model`: the folder of an atlas of your own (`pathasst atlas build`).

    >>> for case in pathasst.tools.similar_cases("field.png").numbers["cases"]:
    ...     print(case["caption"], case["link"])
    """
    return run("similar_cases", image, model=model, k=k)


def papers_search(query: str, *, k: int = 5) -> list[Hit]:
    """The `k` best abstracts of the default paper collection; `pathasst.papers` has more. Raises BadDataset without one."""
    return run("papers_search", query=query, k=k).raw.hits


__all__ = [
    "Result",
    "blood_cells",
    "card",
    "he_nuclei",
    "her2_cells",
    "ki67_cells",
    "lbc_classify",
    "lbc_detect",
    "lbc_generate",
    "names",
    "papers_search",
    "pdl1_cells",
    "run",
    "segment",
    "similar_cases",
]
