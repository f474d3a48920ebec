from __future__ import annotations

from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile

from pathasst.core.errors import BadInput
from pathasst.imaging.slides import open_slide
from pathasst.imaging.slides.tiff_tiles import CACHE_BYTES, DecodedTiles, TiledLevels

RANDOM = np.random.default_rng(0)


@pytest.fixture(scope="module", params=["jpeg", "lzw", None])
def pyramid(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiles") / f"{request.param}.tif"
    image = np.kron(RANDOM.integers(60, 255, (60, 84, 3)), np.ones((9, 9, 1))).astype(np.uint8)
    with tifffile.TiffWriter(path) as file:
        for step in (1, 2, 4):
            file.write(
                image[::step, ::step], photometric="rgb", tile=(128, 128), compression=request.param, subfiletype=int(step > 1),
                resolution=(20000, 20000), resolutionunit="centimeter", metadata=None,
            )  # fmt: skip
    return path


def same_as_openslide(path: Path) -> int:
    """How many windows of all levels were compared."""
    compared = 0
    with openslide.OpenSlide(str(path)) as theirs, open_slide(path, 0.5) as ours:
        fast = TiledLevels.of(path, theirs.level_dimensions)
        assert fast is not None
        for level, (width, height) in enumerate(theirs.level_dimensions):
            for _ in range(6):
                x, y = int(RANDOM.integers(0, width - 20)), int(RANDOM.integers(0, height - 20))
                size = int(RANDOM.integers(10, width - x + 1)), int(RANDOM.integers(10, height - y + 1))
                factor = theirs.level_downsamples[level]
                region = theirs.read_region((round(x * factor), round(y * factor)), level, size)
                pixels = fast.read(level, x, y, *size)
                assert pixels is not None
                assert np.array_equal(pixels, np.asarray(region)[..., :3])
                assert np.array_equal(ours.read_level(level, (x, y, *size)), pixels)
                compared += 1
        fast.close()
    return compared


def test_the_pixels_are_openslides(pyramid: Path) -> None:
    assert same_as_openslide(pyramid) == 18


@pytest.mark.parametrize("name", ["cmu-1-small-region.svs", "BS25__SYN.tif"])
def test_the_pixels_of_real_slides_are_openslides(real_data: Path, name: str) -> None:
    assert same_as_openslide(real_data / "slides" / name)


def test_a_level_that_is_no_picture_of_the_file_is_left_to_the_other_reader(pyramid: Path) -> None:
    levels = TiledLevels.of(pyramid, [(756, 540), (100, 100)])
    assert levels is not None
    assert levels.read(0, 700, 500, 56, 40) is not None
    assert levels.read(1, 0, 0, 10, 10) is None
    assert levels.read(0, 700, 500, 57, 40) is None  # beyond the edge


def test_no_tiff_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"not a picture")
    assert TiledLevels.of(tmp_path / "a.tif", [(10, 10)]) is None


def test_a_damaged_tile_is_one_error_that_names_it(pyramid: Path, tmp_path: Path) -> None:
    if pyramid.stem != "jpeg":
        pytest.skip("other compressions decode any bytes")
    with tifffile.TiffFile(pyramid) as file:
        offset, count = file.pages[0].dataoffsets[7], file.pages[0].databytecounts[7]
    content = bytearray(pyramid.read_bytes())
    content[offset : offset + count] = bytes(count)
    (tmp_path / "damaged.tif").write_bytes(content)
    with open_slide(tmp_path / "damaged.tif", 0.5) as slide:
        assert slide.read((0, 0, 100, 100)).image.shape == (100, 100, 3)
        with pytest.raises(BadInput, match=r"damaged\.tif cannot be read at .*damaged"):
            slide.read((130, 130, 100, 100))


def test_the_cache_is_bounded() -> None:
    cache = DecodedTiles(1000)
    for number in range(5):
        cache.put((0, number), np.zeros(400, np.uint8))
    assert [cache.get((0, n)) is not None for n in range(5)] == [False, False, False, True, True]
    cache.put((1, 0), np.zeros(2000, np.uint8))
    assert cache.get((1, 0)) is None
    assert CACHE_BYTES < 2**26
