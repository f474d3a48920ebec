"""Labelled objects of the user's own: a COCO JSON with `segmentation`, or a folder of `images` and `masks`. Knows no network."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pathasst.classifier.items import SUFFIXES
from pathasst.errors import BadDataset
from pathasst.tools.images import load

LEAST = 12
"""px of an object; smaller ones are specks of the drawing."""


@dataclass(frozen=True, slots=True)
class Object:
    """One labelled object: `pixels` h×w bool, cut to what is true, lie at `x`, `y` of the picture."""

    x: int
    y: int
    pixels: np.ndarray

    @property
    def box(self) -> tuple[int, int, int, int]:
        """x1 y1 x2 y2 px, x2 and y2 exclusive."""
        return self.x, self.y, self.x + self.pixels.shape[1], self.y + self.pixels.shape[0]

    def whole(self, height: int, width: int) -> np.ndarray:
        """H×W bool."""
        full = np.zeros((height, width), bool)
        full[self.y : self.y + self.pixels.shape[0], self.x : self.x + self.pixels.shape[1]] = self.pixels
        return full


@dataclass(frozen=True, slots=True)
class Outlined:
    """A picture and its objects, read when asked for: `read` gives H×W×3 uint8 RGB and the objects of at least LEAST px."""

    path: Path
    split: str
    objects: Callable[[int, int], list[Object]]

    def read(self) -> tuple[np.ndarray, list[Object]]:
        """Raises BadInput for a picture that cannot be read, BadDataset for a mask of another size."""
        image = load(self.path)
        return image, self.objects(*image.shape[:2])


def read_outlined(source: Path) -> list[Outlined]:
    """The pictures of a COCO JSON (file names relative to it), or of a folder with `images` and, by the same stems, `masks`.

    A mask numbers its objects from 1, or marks them all with one value: then each connected part is an object.
    Raises BadDataset for a source that is neither, and for one without an object.
    """
    if source.is_dir():
        found = _from_folder(source)
    elif source.suffix == ".json" and source.is_file():
        found = _from_coco(source)
    else:
        raise BadDataset(f"{source}: give a COCO JSON with segmentation, or a folder with the folders images and masks.")
    if not found:
        raise BadDataset(f"{source} holds no picture with its mask.")
    return found


def _from_folder(folder: Path) -> list[Outlined]:
    masks = {p.stem: p for p in sorted((folder / "masks").glob("*")) if p.suffix.lower() in SUFFIXES}
    pictures = [p for p in sorted((folder / "images").glob("*")) if p.suffix.lower() in SUFFIXES and p.stem in masks]
    return [Outlined(p, "", lambda h, w, mask=masks[p.stem]: _numbered(mask, h, w)) for p in pictures]  # type: ignore[misc]


def _numbered(file: Path, height: int, width: int) -> list[Object]:
    """Objects of a picture of whole numbers."""
    import cv2
    from PIL import Image

    with Image.open(file) as opened:
        values = np.asarray(opened)
    if values.shape != (height, width):
        raise BadDataset(f"{file} must be one channel of {height}×{width} px, as its picture; it is {values.shape}.")
    if file.suffix.lower() in (".jpg", ".jpeg"):  # JPEG has no exact numbers: only the object's value stands out
        values = values > 127
    numbers = np.unique(values[values > 0])
    if len(numbers) == 1:
        values = cv2.connectedComponents((values > 0).astype(np.uint8))[1]
        numbers = np.arange(1, values.max() + 1)
    return [o for n in numbers if (o := _cut(values == n))]


def _cut(mask: np.ndarray) -> Object | None:
    """H×W bool → the object, None where it has fewer than LEAST px."""
    if mask.sum() < LEAST:
        return None
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x, y = int(columns[0]), int(rows[0])
    return Object(x, y, mask[y : rows[-1] + 1, x : columns[-1] + 1].copy())


def _from_coco(file: Path) -> list[Outlined]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        drawn: dict[Any, list[Any]] = defaultdict(list)
        for a in content["annotations"]:
            if a.get("segmentation") and not a.get("iscrowd"):
                drawn[a["image_id"]].append(a["segmentation"])
        pictures = [(file.parent / i["file_name"], i.get("split", ""), drawn[i["id"]]) for i in content["images"]]
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise BadDataset(f"{file} is no COCO JSON (images, annotations with segmentation): {error!r}") from error
    return [Outlined(p, split, lambda h, w, own=own: _polygons(own, h, w, file)) for p, split, own in pictures if own]  # type: ignore[misc]


def _polygons(drawn: list[Any], height: int, width: int, file: Path) -> list[Object]:
    """Objects of COCO's polygons or run lengths."""
    from pycocotools import mask as coco

    objects = []
    for one in drawn:
        try:
            parts = coco.frPyObjects(one, height, width) if isinstance(one, list) or isinstance(one["counts"], list) else one
            mask = coco.decode(coco.merge(parts) if isinstance(parts, list) else parts).astype(bool)
        except Exception as error:  # pycocotools raises bare ones
            raise BadDataset(f"{file}: this is no polygon and no run lengths of COCO's: {str(one)[:60]} ({error})") from error
        if mask.shape != (height, width):
            raise BadDataset(f"{file}: a mask of {mask.shape} does not fit its picture of {height}×{width} px.")
        objects += [o] if (o := _cut(mask)) else []
    return objects
