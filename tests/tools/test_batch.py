"""A folder through a tool: one row a picture, bad ones counted, done ones kept; regions of a real slide."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner

from pathasst.cli.tools import app
from pathasst.core.errors import BadInput, BadSettings, MissingWeights
from pathasst.core.records import Annotation, Picture, ToolResult
from pathasst.imaging.pictures import encode_png
from pathasst.imaging.slides import parse_box, read_region
from pathasst.tools.batch import find_pictures, passed_over, run_folder, run_one, save
from pathasst.tools.lbc_detect import LbcDetect
from pathasst.tools.lbc_generate import LbcGenerate
from pathasst.tools.protocol import Arguments, Tool, ToolCard
from pathasst.tools.registry import default_registry


class MeanArguments(Arguments):
    um_per_px: float | None = None


class Mean(Tool[MeanArguments]):
    """The mean grey of a picture: a tool cheap enough to run many times."""

    name = "mean"
    card = ToolCard(purpose="Mean grey value of any picture.", expects="any")
    arguments = MeanArguments
    runs = 0

    def run(self, arguments: MeanArguments, image: np.ndarray) -> ToolResult:
        type(self).runs += 1
        numbers = {"mean": float(image.mean()), "size": list(image.shape[:2]), "um_per_px": arguments.um_per_px}
        return ToolResult(name=self.name, text="ok", numbers=numbers, pictures=[Picture(name="copy", image=encode_png(image))])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for name, value in (("a.png", 10), ("sub/a.png", 20), ("b.jpg", 30)):
        Image.new("RGB", (8, 6), (value,) * 3).save(tmp_path / "in" / name)
    (tmp_path / "in" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    return tmp_path / "in"


def rows_of(file: Path) -> dict[str, dict[str, str]]:
    with file.open(newline="") as source:
        return {row["image"]: row for row in csv.DictReader(source)}


def test_every_picture_has_a_row_and_a_bad_one_its_reason(folder, tmp_path):
    out = tmp_path / "out"
    done = list(run_folder(Mean(), folder, out, {}))
    rows = rows_of(out / "results.csv")
    assert set(rows) == {"a.png", "sub/a.png", "b.jpg", "bad.png"} and len(done) == 4
    assert float(rows["sub/a.png"]["mean"]) == 20 and json.loads(rows["a.png"]["size"]) == [6, 8]
    assert "bad.png" in rows["bad.png"]["error"] and rows["bad.png"]["mean"] == ""
    assert {p.name for p in out.iterdir()} >= {"a.png.json", "a.png.copy.png", "sub", "b.jpg.copy.png"}
    assert (out / "sub" / "a.png.json").is_file()


def test_finished_pictures_are_kept_unless_the_arguments_change(folder, tmp_path):
    out = tmp_path / "out"
    list(run_folder(Mean(), folder, out, {}))
    before = Mean.runs
    again = list(run_folder(Mean(), folder, out, {}))
    assert Mean.runs == before and sum(d.skipped for d in again) == 3
    assert float(rows_of(out / "results.csv")["b.jpg"]["mean"]) == pytest.approx(30, abs=1)
    list(run_folder(Mean(), folder, out, {"um_per_px": 0.5}))
    assert Mean.runs == before + 3


class Edge(Mean):
    """Boxes the whole picture, and names it by a formula."""

    def run(self, arguments: MeanArguments, image: np.ndarray) -> ToolResult:
        box = Annotation(
            kind="box", label="+cell", coordinates=[0.0, 0.0, float(image.shape[1]), float(image.shape[0])], score=0.5
        )
        return ToolResult(name=self.name, numbers={"um_per_px": arguments.um_per_px, "low": -1, "word": "@x"}, annotations=[box])


class Corner(Mean):
    """A cell in the corner of every picture."""

    name = "corner"

    def run(self, arguments: MeanArguments, image: np.ndarray) -> ToolResult:
        return ToolResult(name=self.name, annotations=[Annotation(kind="point", label="cell", coordinates=[1.0, 2.0])])


def test_objects_for_qupath_stand_beside_each_result(folder, tmp_path):
    out = tmp_path / "out"
    list(run_folder(Corner(), folder, out, {}))
    assert not list(out.rglob("*.geojson"))
    list(run_folder(Corner(), folder, out, {}, geojson=True))  # also of pictures that an earlier run finished
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*.geojson")) == [
        "a.png.geojson", "b.jpg.geojson", "sub/a.png.geojson",
    ]  # fmt: skip
    (feature,) = json.loads((out / "a.png.geojson").read_text())["features"]
    assert feature["geometry"] == {"type": "Point", "coordinates": [1.0, 2.0]}
    assert feature["properties"]["classification"]["name"] == "cell"


def test_a_dead_link_costs_itself_and_rows_are_there_as_they_come(folder, tmp_path):
    (folder / "aa.jpg").symlink_to(folder / "gone.jpg")
    out = tmp_path / "out"
    for n, done in enumerate(run_folder(Mean(), folder, out, {}), start=1):
        assert len(rows_of(out / "results.csv")) == n and done.name in rows_of(out / "results.csv")
    assert "No such file" in rows_of(out / "results.csv")["aa.jpg"]["error"] and n == 5


def test_a_spreadsheet_meets_no_formula(folder, tmp_path):
    (folder / "a.png").rename(folder / "=cmd|calc.png")
    for _ in range(2):  # the second time from the first one's results
        list(run_folder(Edge(), folder, tmp_path / "out", {}))
        rows = rows_of(tmp_path / "out" / "results.csv")
        assert rows["'=cmd|calc.png"]["word"] == "'@x" and rows["'=cmd|calc.png"]["low"] == "-1"
        cells = rows_of(tmp_path / "out" / "cells.csv")
        assert set(cells) == {"'=cmd|calc.png", "b.jpg", "sub/a.png"} and cells["b.jpg"]["label"] == "'+cell"
        assert (cells["b.jpg"]["x"], cells["b.jpg"]["x2"], cells["b.jpg"]["score"]) == ("4.0", "8.0", "0.5")


def test_a_picture_under_another_suffix_or_none_is_one(tmp_path):
    pixels = np.full((20, 30, 3), 200, np.uint8)
    for name, kind in (("a.jfif", "JPEG"), ("b", "PNG"), ("c.dat", "TIFF"), ("d.ppm", "PPM")):
        Image.fromarray(pixels).save(tmp_path / name, kind)
    (tmp_path / "._a.png").write_bytes(b"\0\5\26\7")  # what macOS writes beside a file
    (tmp_path / "notes").write_text("no picture")
    assert [p.name for p in find_pictures(tmp_path)] == ["a.jfif", "b", "c.dat", "d.ppm"]
    assert passed_over(tmp_path) == {".png": 1, "no suffix": 1}


def test_a_folder_from_which_nothing_comes_is_an_error(tmp_path):
    for name in ("a.png", "b.jpg"):
        (tmp_path / name).write_text("no picture")
    result = CliRunner().invoke(app, ["batch", "ki67_cells", str(tmp_path), "--out", str(tmp_path / "out")])
    assert result.exit_code == 1 and "2 not usable" in result.output
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.svg").write_text("<svg/>")
    with pytest.raises(BadInput, match=r"but 1 \.svg"):
        find_pictures(tmp_path / "other")


def test_what_is_passed_over_is_counted(folder, tmp_path):
    (folder / "x.svg").write_text("<svg/>")
    (folder / "y.SVG").write_text("<svg/>")
    assert passed_over(folder) == {".svg": 2, ".txt": 1}


@pytest.mark.parametrize(("resolution", "scale"), [((20_000, 20_000, 3), 0.5), ((72, 72, 2), None)])
def test_a_pictures_own_scale_is_used_and_a_print_resolution_is_not(tmp_path, resolution, scale):
    pixels = np.full((16, 24, 3), 200, np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", resolution=resolution[:2], resolutionunit=resolution[2])
    result = run_one(Mean(), tmp_path / "a.tif", {})
    assert result.numbers["um_per_px"] == (scale and pytest.approx(scale))
    assert bool(result.warnings) == (scale is None)
    assert run_one(Mean(), tmp_path / "a.tif", {"um_per_px": 0.3}).numbers["um_per_px"] == 0.3
    part = run_one(Mean(), tmp_path / "a.tif", {}, (0, 0, 16, 16))
    assert part.numbers["um_per_px"] == result.numbers["um_per_px"]
    assert bool(part.warnings) == (scale is None)


def test_a_region_of_a_large_picture_that_is_no_slide(tmp_path, monkeypatch):
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8)).save(tmp_path / "a.png")
    result = run_one(Mean(), tmp_path / "a.png", {}, (2, 1, 3, 2))
    assert result.numbers["size"] == [2, 3] and result.numbers["region"] == [2, 1, 3, 2] and result.numbers["mean"] == 15
    assert "does not lie within" in run_one(Mean(), tmp_path / "a.png", {}, (6, 1, 3, 2)).error


def test_a_changed_picture_is_done_again(folder, tmp_path):
    list(run_folder(Mean(), folder, tmp_path / "out", {}))
    Image.new("RGB", (9, 6), (90,) * 3).save(folder / "a.png")
    again = {d.name: d for d in run_folder(Mean(), folder, tmp_path / "out", {})}
    assert again["a.png"].result.numbers["mean"] == 90 and not again["a.png"].skipped and again["b.jpg"].skipped


def test_answers_within_the_folder_are_not_taken_for_its_pictures(folder):
    for _ in range(2):
        assert len(list(run_folder(Mean(), folder, folder / "out", {}))) == 4


def test_a_tool_that_looks_at_no_picture_is_not_run_over_a_folder(folder, tmp_path):
    with pytest.raises(BadInput, match="looks at no picture"):
        list(run_folder(LbcGenerate(), folder, tmp_path / "out", {"cell_class": "NILM"}))


def test_a_folder_without_pictures_is_refused_and_so_is_what_is_none(folder, tmp_path):
    with pytest.raises(BadInput, match="no pictures"):
        list(run_folder(Mean(), tmp_path / "in" / "sub", tmp_path / "in" / "sub", {}))
    for none in (folder / "a.png", tmp_path / "nowhere"):
        with pytest.raises(BadInput, match=r"no folder.*tools run"):
            list(run_folder(Mean(), none, tmp_path / "out", {}))


def test_the_saved_json_can_be_read_and_holds_no_bytes(tmp_path):
    result = ToolResult(name="mean", text="ok", numbers={"n": 1}, pictures=[Picture(name="p", image=b"x", synthetic=True)])
    files = save(result, tmp_path, "one")
    row = json.loads(files[-1].read_text())
    assert row["numbers"] == {"n": 1} and row["pictures"] == [{"name": "p", "synthetic": True}]


@pytest.mark.parametrize("text", ["1,2,3", "a,b,c,d", "0,0,0,5", ""])
def test_a_region_must_be_four_numbers(text):
    with pytest.raises(BadSettings):
        parse_box(text)


@pytest.mark.real
class TestSlide:
    """Regions of a real pyramidal slide."""

    @pytest.fixture(scope="class")
    def slide(self) -> Path:
        if "PATHASST_DATA" not in os.environ:
            pytest.skip("set PATHASST_DATA to the folder of sample data")
        pytest.importorskip("openslide")
        path = Path(os.environ["PATHASST_DATA"]) / "slides" / "cmu-1-small-region.svs"
        if not path.is_file():
            pytest.skip(f"{path} is not there")
        return path

    def test_a_region_has_its_pixels_and_scale(self, slide):
        region = read_region(slide, (400, 500, 300, 200))
        assert region.image.shape == (200, 300, 3) and region.image.dtype == np.uint8
        assert region.um_per_px == pytest.approx(0.499, abs=0.01)
        larger = read_region(slide, (350, 450, 400, 300)).image
        assert np.array_equal(larger[50:250, 50:350], region.image)

    @pytest.mark.parametrize(("box", "level"), [((0, 0, 10**6, 10), 0), ((-1, 0, 5, 5), 0), ((0, 0, 5, 5), 9)])
    def test_what_lies_outside_is_refused(self, slide, box, level):
        with pytest.raises(BadInput):
            read_region(slide, box, level)

    def test_an_he_slide_is_refused_by_the_cell_tools(self, slide):
        from pathasst.tools.registry import tool_class

        assert "H&E" in run_one(tool_class("ki67_cells")(), slide, {}, (400, 500, 512, 512)).error

    @pytest.mark.parametrize("name", [name for name, tool in default_registry().tools.items() if tool.needs_image])
    def test_every_tool_takes_a_region_and_its_scale(self, slide, name):
        tool = default_registry().tools[name]
        if tool.missing():
            pytest.skip(f"the weights of {name} are not here")
        result = run_one(tool, slide, {"points": [[128.0, 128.0]]} if name == "segment" else {}, (1536, 2048, 256, 256))
        if name in ("ki67_cells", "her2_cells", "pdl1_cells"):
            assert "H&E" in result.error  # right: the slide is no immunohistochemistry
            return
        assert not result.error and result.text and result.numbers
        measured = {"segment": "areas_um2", "blood_cells": "WBC_per_mm2", "lbc_detect": "cells_per_mm2"}
        if name in measured:
            assert result.numbers[measured[name]] is not None

    def test_each_region_of_a_slide_keeps_its_own_files(self, slide, tmp_path):
        if default_registry().tools["he_nuclei"].missing():
            pytest.skip("the weights of he_nuclei are not here")
        for region in ("1536,2048,256,256", "1200,2048,256,256"):
            run = CliRunner().invoke(app, ["run", "he_nuclei", str(slide), "--region", region, "--out", str(tmp_path)])
            assert run.exit_code == 0, run.output
        kept = sorted(tmp_path.glob("*.json"))
        assert [json.loads(f.read_text())["numbers"]["region"][0] for f in kept] == [1200, 1536]
        assert len(list(tmp_path.glob("*.png"))) == 2

    def test_a_tool_is_given_the_scale_of_the_slide(self, slide):
        result = run_one(Mean(), slide, {}, (0, 8, 64, 64))
        assert result.numbers["um_per_px"] == pytest.approx(0.499, abs=0.01)
        assert result.numbers["region"] == [0, 8, 64, 64] and result.numbers["level"] == 0
        assert run_one(Mean(), slide, {"um_per_px": 2.0}, (0, 0, 64, 64)).numbers["um_per_px"] == 2.0
        whole = run_one(Mean(), slide, {}).numbers
        assert whole["region"] == [0, 0, *whole["size"][::-1]] and whole["um_per_px"] == result.numbers["um_per_px"]


def test_an_immunostained_slide_is_counted_per_mm2(tmp_path):
    """A tiled TIFF that states its resolution is a slide to OpenSlide: 20,000 px a cm are 0.5 µm/px."""
    from skimage.data import immunohistochemistry

    pytest.importorskip("openslide")
    tifffile = pytest.importorskip("tifffile")
    tool = default_registry().tools["ki67_cells"]
    if tool.missing():
        pytest.skip("the weights of ki67_cells are not here")
    resolution = {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(tmp_path / "ihc.tif", immunohistochemistry(), tile=(256, 256), photometric="rgb", **resolution)
    result = run_one(tool, tmp_path / "ihc.tif", {}, (100, 100, 300, 200))
    assert not result.error
    assert result.numbers["cells_per_mm2"] == pytest.approx(result.numbers["cells"] / (300 * 200 * 0.25e-6), rel=0.01)


def test_a_region_of_a_plain_picture_is_read_as_one_of_a_slide(tmp_path):
    pytest.importorskip("pyvips")
    Image.new("RGB", (20, 20), "red").save(tmp_path / "a.png")
    assert read_region(tmp_path / "a.png", (0, 0, 5, 5)).image.tolist() == [[[255, 0, 0]] * 5] * 5


def test_the_command_line_lists_cards_and_refuses_plainly(tmp_path):
    runner = CliRunner()
    listed = runner.invoke(app, ["list"])
    assert listed.exit_code == 0 and "segment" in listed.stdout and "papers_search" in listed.stdout
    card = runner.invoke(app, ["card", "her2_cells"])
    assert card.exit_code == 0 and "not validated" in card.stdout.replace("\n", " ")
    for arguments, error in [
        (["run", "x_ray", "a.png"], BadSettings),
        (["run", "lbc_classify", "a.png"], BadInput),
        (["run", "segment"], BadInput),
        (["run", "papers_search"], BadSettings),
        (["run", "segment", "a.png", "--args", "{"], BadSettings),
    ]:
        result = runner.invoke(app, arguments)
        # MissingWeights is what a machine without MobileSAM says first.
        assert result.exit_code == 1 and type(result.exception).__name__ in (error.__name__, "MissingWeights")


def test_a_model_is_a_folder_or_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    refused = CliRunner().invoke(app, ["run", "lbc_detect", "a.png", "--model", "nowhere"])
    assert isinstance(refused.exception, BadSettings) and "there is no folder nowhere" in str(refused.exception)
    Image.new("RGB", (64, 64), (230, 120, 180)).save("a.png")
    seen = CliRunner().invoke(app, ["run", "lbc_detect", "a.png", "--model", "mine"])
    assert f"{tmp_path / 'mine'} holds no detector" in str(seen.exception)


def test_absent_weights_come_with_the_command_that_fetches_them(monkeypatch):
    monkeypatch.setattr(LbcDetect, "missing", classmethod(lambda cls: ["one", "two"]))
    assert "pathasst models pull one two" in CliRunner().invoke(app, ["list"], env={"COLUMNS": "200"}).stdout
    refused = CliRunner().invoke(app, ["run", "lbc_detect", "a.png"])
    assert isinstance(refused.exception, MissingWeights) and "pathasst models pull one two" in str(refused.exception)
