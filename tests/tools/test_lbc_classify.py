"""The cytology classifier behind the protocol: fields and cells, tiles, a model of the user's own, what it refuses."""

import numpy as np
import pytest
import torch

from pathasst.core import weights
from pathasst.core.records import NOTICE, ToolCall
from pathasst.nn.classifier import Classifier, ClassifierConfig
from pathasst.nn.classifier.model import build
from pathasst.tools.lbc_classify import BETHESDA, FIELDS, WEIGHTS, LbcClassify


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    config = ClassifierConfig(classes=BETHESDA, backbone="resnet18", size=32, options={"channels": (8, 8, 8, 8)})
    out = tmp_path_factory.mktemp("own")
    Classifier(build(config), config).save(out)
    return str(out)


def smear(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    image = np.full((height, width, 3), (235, 225, 235), np.uint8)
    image[height // 4 : height // 2, width // 4 : width // 2] = (120, 60, 140)
    return (image - rng.integers(0, 9, image.shape)).astype(np.uint8)


def call(tool: LbcClassify, image: np.ndarray):
    return tool(ToolCall(name="lbc_classify"), image)


def test_an_own_model_gives_its_classes_and_says_so(folder):
    result = call(LbcClassify(folder), smear(90, 90))
    assert not result.error and sum(result.numbers["probabilities"].values()) == pytest.approx(1, abs=0.01)
    assert result.numbers["class"] == next(iter(result.numbers["probabilities"]))
    assert "own trained model" in result.text and result.notice == NOTICE
    assert result.pictures[0].image[:4] == b"\x89PNG" and result.annotations[0].coordinates == [0, 0, 90, 90]


def test_a_large_picture_is_cut_into_fields(folder):
    result = call(LbcClassify(folder), np.tile(smear(512, 512), (6, 6, 1)))
    assert result.numbers["fields"] == 4 == sum(result.numbers["fields_by_class"].values())
    assert {tuple(a.coordinates) for a in result.annotations} >= {(0, 0, 1664, 1664), (1408, 1408, 3072, 3072)}


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.full((300, 300, 3), 128, np.uint8), "grey"),
        (np.zeros((300, 300, 3), np.uint8), "dark"),
        (smear(10, 300), "at least 32"),
    ],
)
def test_wrong_pictures_are_refused_with_a_reason(folder, image, reason):
    assert reason in call(LbcClassify(folder), image).error


needs_weights = pytest.mark.skipif(not weights.present(WEIGHTS), reason=f"the weights {WEIGHTS} are not shipped")


@needs_weights
@pytest.mark.parametrize(("side", "kind"), [(90, "cell"), (512, "field")])
def test_of_a_field_only_what_was_labelled_is_said(side, kind):
    from pathasst.nn import heads

    classes = BETHESDA if kind == "cell" else heads.load(FIELDS).classes
    result = call(LbcClassify(), smear(side, side))
    assert result.numbers["judged_as"] == kind and set(result.numbers["probabilities"]) == set(classes)
    assert result.version.startswith(WEIGHTS)


@needs_weights
@pytest.mark.real
def test_fields_of_the_held_out_originals_are_mostly_right(real_data):
    from pathasst.core import recipes
    from pathasst.nn.classifier import ClassifierTraining, split_items
    from pathasst.nn.classifier.items import read_picture, read_source

    settings = ClassifierTraining.load(recipes.recipe_path("lbc", "embedded")).rooted(real_data)
    items = split_items([i for s in settings.data for i in read_source(s)], settings.val, settings.test, settings.seed)
    held = [i for i in items if i.split == "test" and i.source == "mendeley"][::3]
    right = [call(LbcClassify(), read_picture(i)).numbers["class"] == i.label for i in held]
    assert len(held) > 15 and np.mean(right) > 0.6
