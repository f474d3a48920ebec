"""How well a SAM's masks fit labelled objects: IoU and Dice of what a box, or a point, asks for. Knows no training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from pathasst.core.statistics import mean_interval
from pathasst.imaging.annotations import group_of
from pathasst.nn.sam.masks import Object, Outlined
from pathasst.nn.sam.model import Mask, Sam, select_masks


@dataclass(slots=True)
class Overlaps:
    """IoU of each object of some pictures with the mask that its box, and a point deep inside, asked for; `of`: its group."""

    box: list[float] = field(default_factory=list)
    point: list[float] = field(default_factory=list)
    of: list[str] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """Mean IoU and Dice by box and by point, with 95 % intervals over the groups."""
        values: dict[str, Any] = {"groups": len(set(self.of)), "objects": len(self.of)}
        for name, ious in (("box", self.box), ("point", self.point)):
            dice = [2 * v / (1 + v) for v in ious]
            values[name] = {k: asdict(mean_interval(v, self.of)) for k, v in (("iou", ious), ("dice", dice))}
        return values

    def gain(self, before: Overlaps) -> dict[str, Any]:
        """Mean difference of the IoU, object by object, with 95 % intervals over the groups."""
        pairs = (("box", self.box, before.box), ("point", self.point, before.point))
        return {name: asdict(mean_interval(np.subtract(after, then), self.of)) for name, after, then in pairs}


def overlaps(sam: Sam, pictures: Sequence[Outlined], group: str = "") -> Overlaps:
    """Ask for every object of some pictures by its box, and by one point inside.

    `group`: regular expression whose first group names the patient in a picture's file name; empty: the picture.
    """
    result = Overlaps()
    for picture in pictures:
        image, objects = picture.read()
        height, width = image.shape[:2]
        embedding = sam.set_image(image)
        for one in objects:
            true = one.full_mask(height, width)
            result.of.append(group_of(picture.name, group))
            result.box.append(_iou(sam.predict(embedding, box=np.array(one.box, np.float32)), true))
            result.point.append(_iou(sam.predict(embedding, points=np.array([inner_point(one)], np.float32)), true))
    return result


def _iou(masks: Sequence[Mask], true: np.ndarray) -> float:
    """Of the mask that the tool would take; 0 where none was found."""
    guess = np.any([m.full_mask(*true.shape) for m in select_masks(masks, true.size)], 0)
    return float((guess & true).sum() / (guess | true).sum())


def inner_point(one: Object, rng: np.random.Generator | None = None) -> tuple[float, float]:
    """x, y px within the object: by chance, or without `rng` the one farthest from its edge."""
    import cv2

    if rng is None:
        depth = cv2.distanceTransform(np.pad(one.pixels, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
        row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    else:
        rows, columns = np.nonzero(one.pixels)
        place = int(rng.integers(len(rows)))
        row, column = rows[place], columns[place]
    return one.x + float(column) + 0.5, one.y + float(row) + 0.5
