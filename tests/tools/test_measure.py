"""Each kind of label is measured by its field's measure; what cannot be measured says why."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from pathasst.cli.tools import app
from pathasst.core import weights
from pathasst.core.errors import BadSettings
from pathasst.nn.sam.model import Mask
from pathasst.tools.cells.ki67 import Ki67Cells
from pathasst.tools.lbc_classify import LbcClassify, LbcClassifyArguments
from pathasst.tools.lbc_generate import LbcGenerate
from pathasst.tools.measure import measure
from pathasst.tools.segment import Segment

needs_cells = pytest.mark.skipif(not weights.present("ki67-embedded"), reason="the shipped Ki67 weights are not here")
needs_classes = pytest.mark.skipif(bool(LbcClassify.missing()), reason="fetch the weights: pathasst models pull")


@pytest.fixture
def field(tmp_path):
    """A pale field with four brown nuclei, and their points."""
    import cv2

    image = np.full((256, 256, 3), (232, 226, 224), np.uint8)
    places = [(60, 60), (190, 70), (70, 190), (180, 180)]
    for x, y in places:
        cv2.circle(image, (x, y), 11, (112, 66, 32), -1, cv2.LINE_AA)
    Image.fromarray(image).save(tmp_path / "a.png")
    lines = ["image,x,y,label", *(f"a.png,{x + 0.5},{y + 0.5},positive" for x, y in places)]
    (tmp_path / "points.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


@needs_cells
def test_points_are_measured_within_12_px(field):
    run = CliRunner().invoke(app, ["evaluate", "ki67_cells", str(field / "points.csv"), "--out", str(field / "scores.json")])
    assert run.exit_code == 0, run.output
    assert "1 pictures, 4 cells" in run.output and "| positive |" in run.output
    assert json.loads((field / "scores.json").read_text())["positive"]["recall"] == 1
    # At a quarter of the size a nucleus is nothing that the network knows.
    assert measure(Ki67Cells(), field / "points.csv", um_per_px=0.25 / 4).values["positive"]["recall"] < 1


@needs_cells
def test_classes_go_by_the_tools_names_and_the_scale_is_that_of_run(field):
    """At twice the size, its scale stated by the file, the nuclei are found as `run` finds them."""
    image = Image.open(field / "a.png")
    image.resize((512, 512)).save(field / "a.tif", resolution=20000 * 4, resolution_unit=3)  # 0.125 µm/px
    text = "".join(f"a.tif,{2 * x},{2 * y},immunopositive\n" for x, y in ((60, 60), (190, 70), (70, 190), (180, 180)))
    (field / "points.csv").write_text(f"image,x,y,label\n{text}")
    run = ["evaluate", "ki67_cells", str(field / "points.csv"), "--out", str(field / "scores.json")]
    named = CliRunner().invoke(app, [*run, "--class", "immunopositive=positive"])
    assert named.exit_code == 0 and "scaled by 0.50" in named.output, named.output
    assert json.loads((field / "scores.json").read_text())["positive"]["recall"] == 1
    assert CliRunner().invoke(app, [*run, "--class", "immunopositive"]).exit_code != 0


@needs_cells
def test_points_of_other_classes_or_with_a_split_are_refused(field):
    (field / "other.csv").write_text("image,x,y,label\na.png,5,5,tumour\n")
    with pytest.raises(BadSettings, match="positive, negative"):
        measure(Ki67Cells(), field / "other.csv")
    with pytest.raises(BadSettings, match="no splits"):
        measure(Ki67Cells(), field / "points.csv", "test")


@needs_classes
def test_classes_are_measured_by_f1(tmp_path):
    rng = np.random.default_rng(0)
    for label in ("NILM", "LSIL"):  # crops of cells: compared by grade
        (tmp_path / label).mkdir()
        for n in range(2):
            Image.fromarray(rng.integers(150, 255, (96, 96, 3)).astype(np.uint8)).save(tmp_path / label / f"{n}.png")
    found = measure(LbcClassify(), tmp_path)
    assert found.values["n"] == 4 and "Macro F1" in found.table and "| low grade | 2 |" in found.table
    with pytest.raises(BadSettings, match="split 'test'"):
        measure(LbcClassify(), tmp_path, "test")
    (tmp_path / "LSIL").rename(tmp_path / "odd")
    with pytest.raises(BadSettings, match="odd"):
        measure(LbcClassify(), tmp_path)


@needs_classes
def test_fields_and_cells_are_measured_by_what_run_says_of_them():
    rng = np.random.default_rng(0)
    field, cell = (rng.integers(150, 255, (side, side, 3)).astype(np.uint8) for side in (512, 96))
    tool = LbcClassify()
    for picture in (field, cell):
        names = tool.classes(cell=picture is cell)
        stated = tool.run(LbcClassifyArguments(), picture).numbers["probabilities"]
        assert dict(zip(names, tool.predict([picture])[0], strict=True)) == pytest.approx(stated, abs=1e-3)


def test_masks_are_measured_by_iou_and_dice(tmp_path):
    """A tool that answers every box with the box itself, and every point with nothing, against two discs."""
    from types import SimpleNamespace

    import cv2

    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    mask = np.zeros((64, 64), np.uint8)
    for x, n in ((16, 1), (46, 2)):
        cv2.circle(mask, (x, 32), 9, n, -1)
    Image.fromarray(mask).save(tmp_path / "masks" / "a.png")
    Image.fromarray(np.full((64, 64, 3), 200, np.uint8)).save(tmp_path / "images" / "a.png")

    def predict(embedding, points=None, box=None):
        if box is None:
            return []
        x1, y1, x2, y2 = (int(v) for v in box)
        return [Mask(x1, y1, np.ones((y2 - y1, x2 - x1), bool), 0.9)]

    tool = Segment(str(tmp_path))
    tool.sam = SimpleNamespace(set_image=lambda image: None, predict=predict)
    found = measure(tool, tmp_path)
    share = (mask == 1).sum() / 19**2
    assert found.values["objects"] == 2 and found.values["box"]["iou"]["value"] == pytest.approx(share)
    assert found.values["box"]["dice"]["value"] == pytest.approx(2 * share / (1 + share))
    assert found.values["point"]["iou"]["value"] == 0 and "| box | 0." in found.table
    assert not found.skipped
    Image.fromarray(mask).save(tmp_path / "images" / "b.png")
    (tmp_path / "masks" / "b.png").write_bytes(b"\x89PNG broken")
    again = measure(tool, tmp_path)
    assert again.values["box"] == found.values["box"] and "1 pictures" in again.title
    assert again.values["skipped"] == again.skipped and again.skipped[0].startswith("b.png: the mask b.png")


def test_what_has_no_labels_says_so(tmp_path):
    with pytest.raises(BadSettings, match="cannot be measured"):
        measure(LbcGenerate(), tmp_path)
