"""Labelled objects of the user's own: a COCO JSON with `segmentation`, or a folder of `images` and `masks`. Knows no network."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pathasst.core.errors import BadDataset, BadInput
from pathasst.core.tables import read_text
from pathasst.imaging.annotation_files import picture_path
from pathasst.imaging.annotations import warn_left_out
from pathasst.imaging.label_coordinates import on_picture
from pathasst.imaging.pictures import SUFFIXES, load, read_header, read_labels

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

    def full_mask(self, height: int, width: int) -> np.ndarray:
        """H×W bool."""
        full = np.zeros((height, width), bool)
        full[self.y : self.y + self.pixels.shape[0], self.x : self.x + self.pixels.shape[1]] = self.pixels
        return full


@dataclass(frozen=True, slots=True)
class Outlined:
    """A picture by its file's name, and its objects, read when asked for.

    `read` gives H×W×3 uint8 RGB and the objects of at least LEAST px; it raises BadInput for a picture or mask of no use.
    """

    name: str
    split: str
    read: Callable[[], tuple[np.ndarray, list[Object]]]


def read_outlined(source: Path) -> list[Outlined]:
    """The pictures of a COCO JSON (file names relative to it), or of a folder with `images` and, by the same stems, `masks`.

    A mask is 0 where nothing is; each connected part of one number is an object, so that objects may be numbered, named by
    their class, or all of one value: only where two touch do they need different numbers.
    Raises BadDataset for a source that is neither, and for one without an object.
    """
    if source.is_dir():
        pictures = _from_folder(source)
    elif source.suffix == ".json" and source.is_file():
        pictures = _from_coco(source)
    else:
        raise BadDataset(f"{source}: give a COCO JSON with segmentation, or a folder with the folders images and masks.")
    if not pictures:
        raise BadDataset(f"{source} holds no picture with its mask.")
    return pictures


def usable(pictures: Sequence[Outlined]) -> tuple[list[Outlined], list[str]]:
    """The pictures that can be read and hold an object, and for each of the others why not.

    Everything is read for it once: next to embedding the pictures that is little, and a broken one is known before the work.
    Raises BadDataset, with the first reason, when none is of use.
    """
    good, reasons = [], []
    for picture in pictures:
        try:
            if not picture.read()[1]:
                raise BadInput(f"no object has {LEAST} px or more.")
            good.append(picture)
        except BadInput as error:
            reasons.append(f"{picture.name}: {error}")
    if not good:
        raise BadDataset(f"none of {len(pictures)} pictures can be used; the first: {' '.join(reasons[:1])}")
    return good, reasons


def _from_folder(folder: Path) -> list[Outlined]:
    masks = {_STEM.sub("", p.stem): p for p in sorted((folder / "masks").glob("*")) if p.suffix.lower() in SUFFIXES}
    pictures = [p for p in sorted((folder / "images").glob("*")) if p.suffix.lower() in SUFFIXES]
    pairs = {p: masks[_STEM.sub("", p.stem)] for p in pictures if _STEM.sub("", p.stem) in masks}
    if pairs:
        warn_left_out(folder, Counter({"without a mask of their name": len(pictures) - len(pairs)}), "pictures")
    return [Outlined(p.name, "", partial(_masked, p, mask)) for p, mask in pairs.items()]


_STEM = re.compile(r"[ _-](?:mask|masks|label|labels|seg|segmentation|gt|anno|image|img)\Z", re.IGNORECASE)
"""What programs put behind the name that a picture and its mask share."""


def _masked(picture: Path, mask: Path) -> tuple[np.ndarray, list[Object]]:
    """A picture, and the objects of a mask of whole numbers."""
    from scipy.ndimage import find_objects
    from skimage.measure import label

    image, values = load(picture), read_labels(mask)
    if values.shape != image.shape[:2]:
        raise BadInput(f"the mask {mask.name} has {_size(values)} px, its picture {_size(image)}: they must be of one size.")
    if mask.suffix.lower() in (".jpg", ".jpeg"):  # JPEG has no exact numbers: only the objects' value stands out
        values = values > 127
        if not values.any():
            raise BadInput(f"the JPEG mask {mask.name} has nothing brighter than 127; numbers are kept by PNG or TIFF alone.")
    parts = label(values)
    windows = enumerate(find_objects(parts), start=1)
    objects = [Object(columns.start, rows.start, parts[rows, columns] == n) for n, (rows, columns) in windows]
    return image, [o for o in objects if o.pixels.sum() >= LEAST]


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[1]}×{pixels.shape[0]}"


def _from_coco(file: Path) -> list[Outlined]:
    try:
        content = json.loads(read_text(file))
        by_image: dict[Any, list[Any]] = defaultdict(list)
        for a in content["annotations"]:
            if a.get("segmentation") and not a.get("iscrowd"):
                by_image[a["image_id"]].append(a["segmentation"])
        pictures = [(i, by_image[i["id"]]) for i in content["images"] if by_image[i["id"]]]
        return [
            Outlined(Path(i["file_name"]).name, i.get("split", ""), partial(_polygons, file.parent, i, own))
            for i, own in pictures
        ]
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError, OSError) as error:
        raise BadDataset(f"{file} is no COCO JSON (images, annotations with segmentation): {error!r}") from error


def _polygons(root: Path, entry: dict[str, Any], outlines: list[Any]) -> tuple[np.ndarray, list[Object]]:
    """A picture of COCO's `images`, and the objects of its polygons or run lengths."""
    from pycocotools import mask as coco

    picture = picture_path(root, entry["file_name"])
    image = load(picture)
    height, width = image.shape[:2]
    drawn_on = (float(entry["width"]), float(entry["height"])) if entry.get("width") and entry.get("height") else None
    header = read_header(picture)
    objects = []
    for one in outlines:
        try:
            if isinstance(one, list) and drawn_on and drawn_on != (width, height):
                rings = [on_picture(ring, drawn_on, header) for ring in one]
                if any(r is None for r in rings):
                    raise BadInput(f"it is labelled as of {drawn_on[0]:g}×{drawn_on[1]:g} px, but has {_size(image)}.")
                one = [r.ravel().tolist() for r in rings if r is not None]
            parts = coco.frPyObjects(one, height, width) if isinstance(one, list) or isinstance(one["counts"], list) else one
            mask = coco.decode(coco.merge(parts) if isinstance(parts, list) else parts).astype(bool)
        except BadInput:
            raise
        except Exception as error:  # pycocotools raises bare ones
            raise BadInput(f"this is no polygon and no run lengths of COCO's: {str(one)[:60]} ({error})") from error
        if mask.shape != (height, width):
            raise BadInput(f"a mask of {_size(mask)} px does not fit its picture of {_size(image)} px.")
        objects += [o] if (o := _cut(mask)) else []
    return image, objects


def _cut(mask: np.ndarray) -> Object | None:
    """H×W bool → the object, None where it has fewer than LEAST px."""
    if mask.sum() < LEAST:
        return None
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x, y = int(columns[0]), int(rows[0])
    return Object(x, y, mask[y : rows[-1] + 1, x : columns[-1] + 1].copy())
