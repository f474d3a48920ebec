"""Tiles cover all, overlap enough, and no point is lost or counted twice."""

import numpy as np
import pytest

from pathasst.core.errors import BadSettings
from pathasst.imaging.tiles import merge_points, plan


@pytest.mark.parametrize("shape", [(50, 60), (100, 100), (101, 250), (333, 1000)])
def test_cores_partition_the_picture(shape):
    covered = np.zeros(shape, int)
    for tile in plan(*shape, size=100, overlap=20):
        x1, y1, x2, y2 = tile.core
        covered[y1:y2, x1:x2] += 1
        assert tile.x <= x1 and x2 <= tile.x + tile.width and tile.y <= y1 and y2 <= tile.y + tile.height
        assert tile.width <= 100 and tile.height <= 100
        # A core's inner edge is at least half the overlap away from where its tile ends.
        assert x1 == 0 or x1 - tile.x >= 9
        assert x2 == shape[1] or tile.x + tile.width - x2 >= 9
    assert (covered == 1).all()


def test_every_point_is_found_once_whatever_the_tiling():
    rng = np.random.default_rng(0)
    cells = rng.uniform(0, 500, (400, 2)).astype(np.float32)
    found = []
    for tile in plan(500, 500, size=128, overlap=32):
        inside = ((cells >= [tile.x, tile.y]) & (cells < [tile.x + tile.width, tile.y + tile.height])).all(1)
        n = int(inside.sum())
        found.append((tile, (cells[inside] - [tile.x, tile.y], np.zeros(n, np.int64), np.ones(n, np.float32))))
    points, _, scores = merge_points(found)
    assert len(points) == len(scores) == 400
    assert np.allclose(points[np.lexsort(points.T)], cells[np.lexsort(cells.T)], atol=1e-3)


def test_tiles_are_no_larger_than_it_takes():
    tiles = plan(1280, 1000, size=1024, overlap=96)
    assert [(t.x, t.y, t.width, t.height) for t in tiles] == [(0, 0, 1000, 704), (0, 576, 1000, 704)]


def test_an_overlap_without_a_step_is_refused():
    with pytest.raises(BadSettings):
        plan(10, 10, size=32, overlap=32)
