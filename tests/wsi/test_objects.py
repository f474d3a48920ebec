from __future__ import annotations

import numpy as np
import pytest

from pathasst.core.records import Annotation
from pathasst.imaging import rle
from pathasst.imaging.slides.grid import SlideTile
from pathasst.wsi.objects import Seams, SlideObject, TileResult, place

TILE = SlideTile(0, (1000.0, 2000.0, 1200.0, 2200.0), (1010.0, 2010.0, 1190.0, 2190.0), (100, 100), 1.0)


def _tile(number: int, core: tuple[float, float, float, float], *objects: SlideObject) -> TileResult:
    return TileResult(number=number, core=list(core), window=list(core), tissue=1.0, objects=list(objects))


def _point(x: float, y: float) -> SlideObject:
    return SlideObject(label="a", score=1.0, x=x, y=y)


def _box(x1: float, y1: float, x2: float, y2: float) -> SlideObject:
    return SlideObject(label="a", score=1.0, x=(x1 + x2) / 2, y=(y1 + y2) / 2, box=[x1, y1, x2, y2])


def test_annotations_lie_in_px_of_the_slide_and_in_the_core_alone() -> None:
    mask = np.zeros((100, 100), bool)
    mask[20:30, 40:60] = True
    marks = [
        Annotation(kind="point", label="p", coordinates=[50.0, 25.0], score=0.5),
        Annotation(kind="point", label="outside", coordinates=[2.0, 25.0]),
        Annotation(kind="box", label="b", coordinates=[10.0, 20.0, 30.0, 40.0]),
        Annotation(kind="mask", label="m", coordinates=[40.0, 20.0, 60.0, 30.0], rle=rle.encode(mask)),
    ]
    point, box, gland = place(marks, TILE, (100, 100))
    assert (point.x, point.y, point.score) == (1100.0, 2050.0, 0.5)
    assert box.box == [1020.0, 2040.0, 1060.0, 2080.0]
    assert np.reshape(gland.rings[0], (-1, 2)).min(0).tolist() == [1080.0, 2040.0]
    assert np.reshape(gland.rings[0], (-1, 2)).max(0).tolist() == [1120.0, 2060.0]
    assert gland.geojson(0)["geometry"]["type"] == "Polygon"


@pytest.mark.parametrize(
    ("first", "second", "left"),
    [
        (_point(99, 50), _point(101, 50), 1),
        (_point(95, 50), _point(103, 50), 2),
        (_box(80, 40, 119, 60), _box(82, 40, 120, 60), 1),
        (_box(80, 40, 100, 60), _box(101, 40, 121, 60), 2),
        (_box(60, 40, 100, 60), _box(90, 40, 130, 60), 2),
        (_box(80, 40, 100, 60), _box(80, 40, 125, 60), 1),
    ],
)
def test_an_object_on_a_seam_counts_once(first: SlideObject, second: SlideObject, left: int) -> None:
    seams = Seams(5.0)
    tiles = [_tile(0, (0, 0, 100, 100), first), _tile(1, (100, 0, 200, 100), second)]
    assert sum(len(seams.new(tile)) for tile in tiles) == left


def test_seams_reach_the_next_row_and_corner_and_forget_what_lies_behind() -> None:
    seams = Seams(5.0)
    for row in range(3):
        for column in range(3):
            x, y = column * 100, row * 100
            corner = [_point(x + 99, y + 99)] if (row, column) == (0, 0) else []
            corner += [_point(101, 101)] if (row, column) == (1, 1) else []
            fresh = seams.new(_tile(3 * row + column, (x, y, x + 100, y + 100), *corner))
            assert len(fresh) == int((row, column) == (0, 0))
    assert len(seams._earlier) <= 6
