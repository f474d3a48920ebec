"""A data set of YOLO from a run: tiles of the slide with an object in them, their labels, `data.yaml`."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import yaml

from pathasst.core.errors import BadInput
from pathasst.core.files import write_atomic
from pathasst.imaging.pictures import encode_jpeg
from pathasst.imaging.slides import Slide
from pathasst.wsi.exports.source import Objects

TILE = 640
"""px of a picture's side, which YOLO trains at by default."""


def write_yolo(objects: Objects, slide: Slide, out: Path, um_per_px: float) -> Path:
    """`images/train/*.jpg`, `labels/train/*.txt`, `data.yaml`; an object belongs to the tile of its middle, cut off at its edge.

    Outlines become segmentation rows when every object has one, otherwise all are boxes. Raises BadInput for a run without
    objects or a part of the slide that cannot be read.
    """
    if not len(objects):
        raise BadInput("the run found no object, so there is nothing to train on.")
    shrink = slide.downsample(um_per_px)
    side = min(TILE * shrink, *slide.size)
    middles = (objects.boxes[:, :2] + objects.boxes[:, 2:]) / 2
    tiles: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    for n, (column, row) in enumerate((middles // side).astype(int).tolist()):
        tiles[row, column].append(n)
    outlines = all(objects.rings)
    for folder in ("images/train", "labels/train"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    for (row, column), members in sorted(tiles.items()):
        # the last tile of a row or column lies within the slide, so its pictures are whole
        x = min(column * side, slide.size[0] - side)
        y = min(row * side, slide.size[1] - side)
        name = f"{slide.path.stem}_{round(x)}_{round(y)}"
        image = slide.read((x, y, side, side), downsample=shrink).image
        write_atomic(out / "images/train" / f"{name}.jpg", encode_jpeg(image))
        rows = [_row(objects, n, np.array([x, y]), side, outlines) for n in members]
        write_atomic(out / "labels/train" / f"{name}.txt", "".join(rows).encode())
    names = dict(enumerate(objects.labels))
    content = {"path": ".", "train": "images/train", "val": "images/train", "names": names}
    note = f"# {objects.tool}, {objects.version} on {slide.name}: what a model found, no labels by hand. Part your own val.\n"
    write_atomic(out / "data.yaml", (note + yaml.safe_dump(content, sort_keys=False)).encode())
    return out / "data.yaml"


def _row(objects: Objects, n: int, origin: np.ndarray, side: float, outline: bool) -> str:
    """One line of a label file: class, then the corners of the outline, or the middle and size of the box; all 0 to 1."""
    if outline:
        values = np.clip((objects.rings[n][0][:-1] - origin) / side, 0, 1).ravel()
    else:
        low, high = np.clip((objects.boxes[n].reshape(2, 2) - origin) / side, 0, 1)
        values = np.concatenate([(low + high) / 2, high - low])
    return f"{objects.classes[n]} {' '.join(f'{v:.6f}' for v in values)}\n"
