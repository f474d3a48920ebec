"""The three cell tools with the shipped weights, on the picture that scikit-image ships and on wrong ones."""

import numpy as np
import pytest

from pathasst.core import weights
from pathasst.core.records import NOTICE, ToolCall
from pathasst.imaging.pictures import load
from pathasst.imaging.stains import HAEMATOXYLIN, unmix
from pathasst.tools.cells import detect
from pathasst.tools.registry import tool_class

pytestmark = pytest.mark.skipif(not weights.present(detect.WEIGHTS), reason="the shipped Ki67 weights are not in models/")
NAMES = ("ki67_cells", "her2_cells", "pdl1_cells")


@pytest.fixture(scope="module")
def demo() -> np.ndarray:
    from skimage.data import immunohistochemistry

    return immunohistochemistry()


@pytest.fixture(scope="module")
def results(demo):
    return {name: tool_class(name)()(ToolCall(name=name, arguments={"um_per_px": 0.5}, id="1"), demo) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_counts_marks_picture_and_density_agree(results, demo, name):
    result = results[name]
    assert not result.error and result.version.startswith("ki67-embedded@")
    n = result.numbers["cells"]
    assert n == len(result.annotations) > 50
    area = demo.shape[0] * demo.shape[1] * 0.25e-6
    assert result.numbers["cells_per_mm2"] == pytest.approx(n / area, rel=1e-3)
    for mark in result.annotations:
        assert 0 <= mark.coordinates[0] <= 512 and 0 <= mark.coordinates[1] <= 512 and 0 <= mark.score <= 1
    assert load(result.pictures[0].image).shape[1] == 512
    assert result.notice == NOTICE and str(n) in result.text


def test_the_blue_nuclei_of_the_stroma_are_found(results, demo):
    """The right edge of the picture is stroma with blue nuclei: the points there lie on far more haematoxylin than the rest."""
    points = np.array([a.coordinates for a in results["ki67_cells"].annotations])
    there = np.floor(points[points[:, 0] > 440]).astype(int).clip(0, 511)
    blue = unmix(demo)[..., HAEMATOXYLIN]
    assert len(there) > 10
    assert np.median(blue[there[:, 1], there[:, 0]]) > 1.5 * np.median(blue[:, 440:])


def test_a_membrane_stain_is_doubted_as_ki67_and_said_what_it_was_trained_on(results):
    assert results["ki67_cells"].warnings and "BCData" in results["ki67_cells"].text


@pytest.mark.real
@pytest.mark.parametrize("name", ["her2_cells", "pdl1_cells"])
def test_a_ki67_stain_is_doubted_as_a_membrane_stain(real_data, results, name):
    ki67 = load(real_data / "bcdata_ki67" / "images" / "0.jpg")
    assert tool_class(name)()(ToolCall(name=name), ki67).warnings
    assert not results[name].warnings


@pytest.mark.parametrize("name", ["her2_cells", "pdl1_cells"])
def test_unvalidated_methods_say_so(results, name):
    assert "unvalidated" in results[name].text and not tool_class(name).card.validated


def test_labels_add_up(results):
    ki67, her2, pdl1 = (results[n].numbers for n in NAMES)
    assert ki67["positive"] + ki67["negative"] == ki67["cells"]
    assert ki67["index_percent"] == pytest.approx(100 * ki67["positive"] / ki67["cells"], abs=0.06)
    assert sum(her2["counts"].values()) == her2["cells"] and her2["score"] in ("0", "1+", "2+", "3+")
    assert pdl1["tps_percent"] == pytest.approx(100 * pdl1["positive"] / pdl1["cells"], abs=0.06)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.full((10, 10, 3), 200, np.uint8), "at least 64×64"),
        (np.full((100, 100, 3), 128, np.uint8), "grey"),
        (np.zeros((100, 100, 3), np.uint8), "fluorescence"),
        (np.full((100, 100, 3), (230, 150, 190), np.uint8), "H&E"),
    ],
)
def test_wrong_pictures_are_refused(name, image, message):
    assert message in tool_class(name)()(ToolCall(name=name), image).error


def test_an_empty_slide_with_a_speck_gives_no_index():
    image = np.full((128, 128, 3), 245, np.uint8)
    image[:20, :20] = (150, 170, 210)
    result = tool_class("ki67_cells")()(ToolCall(name="ki67_cells", arguments={"min_score": 0.95}), image)
    assert result.numbers["cells"] == 0 and result.numbers["index_percent"] is None and "No tumour cells" in result.text


def own_model(folder, classes):
    from pathasst.nn.p2pnet.infer import save
    from pathasst.nn.p2pnet.model import P2PNet
    from pathasst.nn.p2pnet.settings import P2PNetSettings

    settings = P2PNetSettings(classes=classes, channels=(8, 16, 24, 32), neck=16, hidden=16, min_score=0.05)
    save(P2PNet(settings), folder)
    return str(folder)


@pytest.mark.parametrize(("name", "classes"), [("her2_cells", ("0", "1+", "2+", "3+")), ("pdl1_cells", ("positive", "negative"))])
def test_a_model_of_the_users_own_decides_by_its_classes(tmp_path, demo, name, classes):
    result = tool_class(name)(own_model(tmp_path / "mine", classes))(ToolCall(name=name), demo)
    assert not result.error and "own trained model" in result.text and "unvalidated" not in result.text
    assert {a.label for a in result.annotations} <= set(classes) and result.version.startswith("mine@")


def test_a_model_of_other_classes_is_only_a_cell_detector(tmp_path, demo):
    result = tool_class("her2_cells")(own_model(tmp_path / "mine", ("nucleus",)))(ToolCall(name="her2_cells"), demo)
    assert "unvalidated" in result.text and {a.label for a in result.annotations} <= {"0", "1+", "2+", "3+"}
