from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from pathasst.core.errors import BadInput, BadSettings, PathAsstError
from pathasst.imaging.slides import is_slide, open_slide, parse_box, read_region, read_scales, tiff_source


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"slides_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


make = _load("make")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: entry[0](tmp_path_factory.mktemp(name)) for name, entry in make.FORMATS.items()}


@pytest.mark.parametrize("name", make.FORMATS)
def test_every_format_states_its_levels_and_scale(files: dict[str, Path], name: str) -> None:
    _, levels, mpp = make.FORMATS[name]
    with open_slide(files[name]) as slide:
        assert slide.size == (make.WIDTH, make.HEIGHT)
        assert len(slide.levels) == levels
        assert [level.downsample[0] for level in slide.levels] == [2**i for i in range(levels)]
        assert slide.um_per_px == (None if mpp is None else pytest.approx(mpp))
        assert slide.scale.source == ("" if mpp is None else "file")


@pytest.mark.parametrize("name", make.FORMATS)
def test_the_pixels_are_those_of_the_picture(files: dict[str, Path], name: str) -> None:
    expected = make.picture().astype(int)
    with open_slide(files[name]) as slide:
        image = slide.read((200, 150, 700, 600)).image
    assert image.shape == (600, 700, 3) and image.dtype == np.uint8
    lossy = name in ("jpeg", "dicom")
    assert np.abs(image.astype(int) - expected[150:750, 200:900]).max() <= (12 if lossy else 0)


@pytest.mark.parametrize("name", make.FORMATS)
@pytest.mark.parametrize("shrink", [0.7, 1.0, 1.37, 2.0, 2.9, 4.0, 5.3, 7.7])
def test_places_are_exact_to_half_a_pixel_at_any_scale(files: dict[str, Path], name: str, shrink: float) -> None:
    left, top, width, height = 3.4, 7.7, 1490.2, 1088.9
    with open_slide(files[name], mpp=0.5) as slide:
        image = slide.read((left, top, width, height), 0.5 * shrink).image
    fx, fy = width / image.shape[1], height / image.shape[0]
    for x, y in make.SPOTS:
        expected = (x - left) / fx, (y - top) / fy
        measured = make.middle(image, *expected, 3 * make.RADIUS / shrink)
        assert np.abs(np.subtract(measured, expected)).max() < 0.3


def test_a_region_read_in_blocks_equals_one_read_at_once(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from pathasst.imaging.slides import slide as module

    with open_slide(files["strips"]) as slide:
        whole = slide.read(downsample=3.7).image.astype(int)
        monkeypatch.setattr(module, "BLOCK", 300)
        blocks = slide.read(downsample=3.7).image.astype(int)
    assert np.abs(whole - blocks).max() <= 1


def test_neighbouring_regions_share_no_pixel(files: dict[str, Path]) -> None:
    with open_slide(files["pyramid_tiff"]) as slide:
        both = slide.read((0, 0, 800, 400), downsample=2).image
        parts = [slide.read((x, 0, 400, 400), downsample=2).image for x in (0, 400)]
    assert np.array_equal(both, np.concatenate(parts, 1))


def test_one_large_compressed_strip_goes_through_a_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiff_source, "MAX_CHUNK", 2**20)
    path = make.one_strip(tmp_path)
    with pytest.raises(tiff_source.OneLargeStrip):
        tiff_source.TiffSource(path)
    with open_slide(path) as slide:
        assert slide.vendor == "tiff"
        assert np.array_equal(slide.read((5, 900, 100, 100)).image, make.picture()[900:1000, 5:105])


def test_a_users_scale_wins_and_the_files_is_told(files: dict[str, Path]) -> None:
    with open_slide(files["pyramid_tiff"], mpp=0.25) as slide:
        assert slide.um_per_px == 0.25 and slide.scale.source == "user" and "0.5" in slide.scale.note
        assert slide.read((0, 0, 400, 400), 0.5).image.shape == (200, 200, 3)
    with pytest.raises(BadSettings, match="cannot be"):
        open_slide(files["pyramid_tiff"], mpp=72)


@pytest.mark.parametrize(("dpi", "stated"), [(72, "352.8"), (300, "84.67"), (25.4, "1000")])
def test_a_print_resolution_is_no_scale(tmp_path: Path, dpi: float, stated: str) -> None:
    import tifffile

    path = tmp_path / "print.tif"
    tifffile.imwrite(
        path, make.picture()[:300, :300], photometric="rgb", tile=(128, 128), resolution=(dpi, dpi), resolutionunit="INCH"
    )
    with open_slide(path) as slide:
        assert slide.scale.source == "" and stated in slide.scale.note
        with pytest.raises(BadInput, match="--mpp"):
            slide.read(um_per_px=0.5)


def test_scales_from_a_table(tmp_path: Path) -> None:
    table = tmp_path / "scales.csv"
    table.write_text("slide,mpp\nfolder/a.tif,0.25\nb.svs,\n", encoding="utf-8")
    assert read_scales(table) == {"a.tif": 0.25}
    table.write_text("slide,mpp\na.tif,fine\n", encoding="utf-8")
    with pytest.raises(BadInput, match="line 2"):
        read_scales(table)
    table.write_text("name,mpp\n", encoding="utf-8")
    with pytest.raises(BadInput, match="lacks"):
        read_scales(table)


@pytest.mark.parametrize("name", [n for n in make.FORMATS if n not in ("deep_zoom", "dicom")])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5])
def test_a_file_cut_off_is_one_error_that_names_it(files: dict[str, Path], tmp_path: Path, name: str, share: float) -> None:
    content = files[name].read_bytes()
    path = tmp_path / files[name].name
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(PathAsstError, match=path.name.split(".")[0]), open_slide(path) as slide:
        for number, level in enumerate(slide.levels):
            slide.read_level(number, (0, 0, level.width, level.height))


def test_a_missing_tile_of_deep_zoom_is_named(files: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(files["deep_zoom"].parent, tmp_path / "copy")
    deepest = max((tmp_path / "copy" / "zoom_files").iterdir(), key=lambda p: int(p.name) if p.name.isdigit() else -1)
    (deepest / "2_2.png").unlink()
    with open_slide(tmp_path / "copy") as slide:
        slide.read((0, 0, 300, 300))
        with pytest.raises(BadInput, match="2_2"):
            slide.read()


def test_a_cut_off_dicom_level_is_an_error(files: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(files["dicom"], tmp_path / "cut")
    file = tmp_path / "cut" / "level0.dcm"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(BadInput, match=r"dcm|cut"), open_slide(tmp_path / "cut") as slide:
        if slide.size == (make.WIDTH, make.HEIGHT):
            slide.read()
        else:
            raise BadInput("level0.dcm was left out")


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "empty"), (b"no picture at all", "cannot be opened"), (b"II*\0" + b"\xff" * 40, "cannot be opened")],
)
def test_foreign_files(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "x.tif"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=words):
        open_slide(path)


def test_stacks_and_fluorescence_are_refused(tmp_path: Path) -> None:
    import tifffile

    tifffile.imwrite(
        tmp_path / "five.ome.tif", np.zeros((5, 64, 64), np.uint8), photometric="minisblack", metadata={"axes": "CYX"}
    )
    with pytest.raises(BadInput, match="5 channels"):
        open_slide(tmp_path / "five.ome.tif")
    tifffile.imwrite(tmp_path / "z.ome.tif", np.zeros((4, 64, 64, 3), np.uint8), photometric="rgb", metadata={"axes": "ZYXS"})
    with pytest.raises(BadInput, match="stack"):
        open_slide(tmp_path / "z.ome.tif")
    tifffile.imwrite(tmp_path / "f.tif", np.zeros((64, 64), np.float32))
    with pytest.raises(BadInput, match="float32"):
        open_slide(tmp_path / "f.tif")


@pytest.mark.parametrize("name", ["pyramid_tiff", "ome_subifd", "strips"])
def test_a_compression_that_nothing_here_reads_is_named(files: dict[str, Path], tmp_path: Path, name: str) -> None:
    import tifffile

    path = tmp_path / files[name].name
    shutil.copy(files[name], path)
    with tifffile.TiffFile(path, mode="r+b") as file:
        for page in [p for first in file.pages for p in (first, *(first.pages or ()))]:
            page.tags["Compression"].overwrite(34677)  # SGI LogLuv
    with pytest.raises(BadInput, match=rf"{path.name}.*(?i:compress)"), open_slide(path) as slide:
        slide.read((0, 0, 300, 300))


def test_a_half_copied_scanners_file_is_one_error(real_data: Path, tmp_path: Path) -> None:
    path = tmp_path / "half.svs"
    content = (real_data / "slides" / "cmu-1-small-region.svs").read_bytes()
    for share in (0.3, 0.9):  # at 0.9 its finest level is whole, and the pictures after it are not there
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(BadInput, match=r"half\.svs"), open_slide(path) as slide:
            slide.read(downsample=4)


def test_no_file_no_folder(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not there"):
        open_slide(tmp_path / "none.svs")
    with pytest.raises(BadInput, match="without DICOM"):
        open_slide(tmp_path)
    assert not is_slide(tmp_path)


def test_regions_outside_and_too_large_are_refused(files: dict[str, Path]) -> None:
    with open_slide(files["png"]) as slide:
        with pytest.raises(BadInput, match="does not lie"):
            slide.read((make.WIDTH - 10, 0, 20, 20))
        with pytest.raises(BadInput, match="megapixels"):
            slide.read(downsample=0.1)


def test_read_region_by_level(files: dict[str, Path]) -> None:
    region = read_region(files["pyramid_tiff"], (0, 0, 800, 600), 1)
    assert region.image.shape == (300, 400, 3)
    assert region.um_per_px == pytest.approx(1.0) and region.box == (0, 0, 800, 600)
    with pytest.raises(BadInput, match="levels 0–2"):
        read_region(files["pyramid_tiff"], None, 7)
    assert parse_box("1,2,3,4") == (1, 2, 3, 4)


def test_label_and_macro_are_hidden(real_data: Path) -> None:
    with open_slide(real_data / "slides" / "cmu-1-small-region.svs") as slide:
        assert slide.pictures() == ["thumbnail"] and set(slide.pictures(private=True)) == {"label", "macro", "thumbnail"}
        assert slide.objective_power == 20 and slide.um_per_px == pytest.approx(0.499)
        with pytest.raises(BadInput, match="hidden"):
            slide.picture("label")
        assert slide.picture("label", private=True).shape == (463, 387, 3)


def test_an_atlas_pyramid_reads_alike_from_each_level(real_data: Path) -> None:
    with open_slide(real_data / "slides" / "duodenum-tubular-adenoma__HE.tif") as slide:
        fine = slide.read((2000, 500, 2048, 2048), downsample=4).image.astype(float)
        level = slide.read_level(2, (500, 125, 512, 512)).astype(float)
    assert np.abs(fine - level).mean() < 0.01
