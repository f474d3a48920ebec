"""A run's objects as a label mask: a pyramid in one OME-TIFF, 0 for the ground, 1, 2, … for the classes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pathasst.core.errors import BadInput, MissingPackage
from pathasst.imaging.slides import Slide
from pathasst.wsi.exports.source import Objects

if TYPE_CHECKING:
    from shapely import STRtree

TILE = 512
SMALLEST = 1024
"""px of the longer side from which a level is not halved again."""


def write_mask(objects: Objects, slide: Slide, file: Path, um_per_px: float) -> Path:
    """Every level is drawn by itself, tile by tile, so that memory does not grow with the slide; later objects lie on top.

    The mask lies over the slide: the same corner, `um_per_px` in the header, class names in its description. Raises BadInput for
    more than 255 classes, MissingPackage without the extra `slides`.
    """
    from shapely import STRtree, box

    try:
        import tifffile
    except ImportError as error:
        raise MissingPackage(f"OME-TIFF needs the extra `slides`: pip install 'pathasst[slides]' ({error})") from None
    if len(objects.labels) > 255:
        raise BadInput(f"the mask has room for 255 classes, the run has {len(objects.labels)}.")
    shrinks = [slide.downsample(um_per_px)]
    while max(slide.size) / shrinks[-1] > SMALLEST:
        shrinks.append(shrinks[-1] * 2)
    tree = STRtree(box(*objects.boxes.T))
    classes = "; ".join(f"{n} {label}" for n, label in enumerate(("ground", *objects.labels)))
    metadata = {
        "axes": "YX",
        "Name": f"{objects.tool} on {slide.name}",
        "Description": f"{objects.tool}, {objects.version}. {classes}",
        "PhysicalSizeX": um_per_px,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": um_per_px,
        "PhysicalSizeYUnit": "µm",
    }
    part = file.with_name(f".{file.name}.new")
    try:
        with tifffile.TiffWriter(part, bigtiff=True, ome=True) as writer:
            for n, shrink in enumerate(shrinks):
                shape = max(round(slide.size[1] / shrink), 1), max(round(slide.size[0] / shrink), 1)
                writer.write(
                    _tiles(objects, tree, shape, shrink),
                    shape=shape,
                    dtype=np.uint8,
                    tile=(TILE, TILE),
                    photometric="minisblack",
                    compression="zlib",
                    subifds=0 if n else len(shrinks) - 1,
                    subfiletype=int(n > 0),
                    metadata=None if n else metadata,
                )
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    return file


def _tiles(objects: Objects, tree: STRtree, shape: tuple[int, int], shrink: float) -> Iterator[np.ndarray]:
    """The level's tiles row by row, each uint8 [TILE, TILE]; a px belongs to an object when its middle does."""
    from shapely import box

    for top in range(0, shape[0], TILE):
        for left in range(0, shape[1], TILE):
            tile = np.zeros((TILE, TILE), np.uint8)
            window = np.array([left, top, left + TILE, top + TILE]) * shrink
            for n in np.sort(tree.query(box(*window))):
                tile[_pixels(objects, n, np.array([left, top]), shrink)] = objects.classes[n] + 1
            yield tile


def _pixels(objects: Objects, n: int, origin: np.ndarray, shrink: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of a tile that an object covers; at least the px of its middle, so that coarse levels lose no cell."""
    from skimage.draw import disk, polygon

    # scikit-image's px have their middles at whole numbers, ours at halves
    low, high = objects.boxes[n].reshape(2, 2) / shrink - origin - 0.5
    middle = (low + high) / 2
    if objects.points[n]:
        rows, columns = disk((middle[1], middle[0]), (high - low)[0] / 2, shape=(TILE, TILE))
    elif not objects.rings[n]:
        rows, columns = polygon([low[1], low[1], high[1], high[1]], [low[0], high[0], high[0], low[0]], (TILE, TILE))
    else:
        rings = [ring / shrink - origin - 0.5 for ring in objects.rings[n]]
        rows, columns = polygon(rings[0][:, 1], rings[0][:, 0], (TILE, TILE))
        for hole in rings[1:]:
            covered = np.zeros((TILE, TILE), bool)
            covered[polygon(hole[:, 1], hole[:, 0], (TILE, TILE))] = True
            stays = ~covered[rows, columns]
            rows, columns = rows[stays], columns[stays]
    if len(rows) or not (middle.round() >= 0).all() or not (middle.round() < TILE).all():
        return rows, columns
    return np.array([round(middle[1])]), np.array([round(middle[0])])
