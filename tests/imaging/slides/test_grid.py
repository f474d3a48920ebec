from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pathasst.core.errors import BadInput
from pathasst.imaging.slides import open_slide
from pathasst.imaging.slides.grid import read_ahead, tiles_of
from pathasst.imaging.slides.tissue import Tissue


@pytest.fixture(scope="module")
def slide_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import tifffile

    path = tmp_path_factory.mktemp("grid") / "ramp.tif"
    y, x = np.mgrid[:700, :1000]
    image = np.stack([x // 4, y // 4, np.zeros_like(x)], -1).astype(np.uint8)
    tifffile.imwrite(path, image, photometric="rgb", tile=(128, 128), metadata=None)
    return path


@pytest.mark.parametrize(("downsample", "size", "overlap"), [(1.0, 256, 32), (1.7, 200, 0), (3.3, 128, 40)])
def test_cores_cover_the_slide_once_and_pictures_show_their_windows(
    slide_file: Path, downsample: float, size: int, overlap: int
) -> None:
    with open_slide(slide_file, 0.5) as slide:
        tiles = tiles_of(slide, downsample, size, overlap)
        area = sum((t.core[2] - t.core[0]) * (t.core[3] - t.core[1]) for t in tiles)
        assert area == pytest.approx(1000 * 700)
        points = np.random.default_rng(0).uniform([0, 0], [1000, 700], (500, 2))
        assert (np.sum([t.owns(points) for t in tiles], axis=0) == 1).all()
        read = list(read_ahead(slide, tiles, threads=3))
    assert [t.number for t, _ in read] == [t.number for t in tiles]
    for tile, region in read:
        assert not isinstance(region, BadInput)
        height, width = region.image.shape[:2]
        assert abs(width - tile.size[0]) <= 1 and abs(height - tile.size[1]) <= 1
        middle = region.image[height // 2, width // 2].astype(float) * 4
        x1, y1, x2, y2 = tile.window
        assert abs(middle[0] - (x1 + x2) / 2) < 4 + 2 * downsample and abs(middle[1] - (y1 + y2) / 2) < 4 + 2 * downsample


def test_only_tiles_with_tissue(slide_file: Path) -> None:
    mask = np.zeros((70, 100), bool)
    mask[:35, :50] = True
    with open_slide(slide_file, 0.5) as slide:
        tiles = tiles_of(slide, 1.0, 100, 0, Tissue(mask, (10.0, 10.0)), 0.6)
    assert {(t.core[0], t.core[1]) for t in tiles} == {(x, y) for x in range(0, 500, 100) for y in range(0, 300, 100)}


@pytest.mark.parametrize(
    ("finest", "asked", "expected"), [(0.499, 0.5, 1.0), (0.2525, 0.25, 1.0), (0.25, 0.35, 1.4), (0.5, 0.25, 0.5)]
)
def test_a_scale_within_two_per_cent_of_a_level_is_the_levels(
    slide_file: Path, finest: float, asked: float, expected: float
) -> None:
    with open_slide(slide_file, finest) as slide:
        assert slide.tile_downsample(asked) == pytest.approx(expected)


def test_tiles_at_a_levels_scale_are_its_px_as_they_are(slide_file: Path) -> None:
    with open_slide(slide_file, 0.499) as slide:
        for tile, region in read_ahead(slide, tiles_of(slide, slide.tile_downsample(0.5), 224)):
            assert not isinstance(region, BadInput)
            x, y, width, height = (round(v) for v in tile.region)
            assert np.array_equal(region.image, slide.read_level(0, (x, y, width, height)))


@pytest.mark.parametrize("downsample", [1.4, 2.37, 3.9])
def test_windows_lie_on_whole_px_and_within_the_slide(slide_file: Path, downsample: float) -> None:
    with open_slide(slide_file, 0.5) as slide:
        tiles = tiles_of(slide, downsample, 128, 16)
    windows = np.array([t.window for t in tiles])
    assert np.array_equal(windows, np.round(windows))
    assert windows.min() >= 0 and (windows[:, 2:] <= [1000, 700]).all()
    assert np.abs(windows[:, 2] - windows[:, 0] - [t.size[0] * downsample for t in tiles]).max() <= 1
