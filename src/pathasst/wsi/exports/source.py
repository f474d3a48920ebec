"""The objects of a run as arrays, which every format is written from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pathasst.core.errors import BadInput
from pathasst.imaging.slides import Slide
from pathasst.wsi.run import SlideRun


def require_slide(run: SlideRun, slide: Slide) -> None:
    """Raises BadInput when the slide is not that of the run."""
    size = tuple(run.summary["size_px"])
    if size != slide.size:
        sizes = f"{size[0]}×{size[1]} px and {slide.size[0]}×{slide.size[1]} px"
        raise BadInput(f"{run.folder} is a run over {run.summary['slide']}, not over {slide.name}: they have {sizes}.")


@dataclass(frozen=True)
class Objects:
    """All objects of one run, in px of the slide's finest level, in the order of `objects.geojson`."""

    tool: str
    version: str
    labels: tuple[str, ...]  # names of the classes
    classes: np.ndarray  # int [n], places in `labels`
    scores: np.ndarray  # float32 [n]
    boxes: np.ndarray  # float32 [n, 4]: x1 y1 x2 y2; of a point a square around it
    points: np.ndarray  # bool [n]: the tool placed a point
    rings: list[list[np.ndarray]]  # outlines float32 [k, 2], the first the outer one; empty for points and boxes

    @classmethod
    def of(cls, run: SlideRun, slide: Slide, point_um: float) -> Objects:
        """Raises BadInput when the slide is not that of the run, BadDataset for an unfinished run."""
        summary = run.summary
        require_slide(run, slide)
        radius = point_um / float(summary["um_per_px"]) / 2
        labels: dict[str, int] = {}
        classes, scores, boxes, points, rings = [], [], [], [], []
        for one in run.objects():
            classes.append(labels.setdefault(one.label, len(labels)))
            scores.append(one.score)
            boxes.append(one.box or [one.x - radius, one.y - radius, one.x + radius, one.y + radius])
            points.append(not one.box)
            rings.append([np.reshape(ring, (-1, 2)).astype(np.float32) for ring in one.rings])
        return cls(
            tool=summary["tool"],
            version=summary["version"],
            labels=tuple(labels),
            classes=np.array(classes, int),
            scores=np.array(scores, np.float32),
            boxes=np.array(boxes, np.float32).reshape(-1, 4),
            points=np.array(points, bool),
            rings=rings,
        )

    def __len__(self) -> int:
        return len(self.classes)

    def by_class(self) -> Iterator[tuple[str, np.ndarray]]:
        """Each class with the places of its objects."""
        for number, label in enumerate(self.labels):
            yield label, np.flatnonzero(self.classes == number)
