"""The cytology classifier behind the protocol: fields and cells, tiles, a model of the user's own, what it refuses."""

import numpy as np
import pytest
import torch

from pathasst.core.records import NOTICE, ToolCall
from pathasst.nn.classifier import Classifier, ClassifierConfig
from pathasst.nn.classifier.model import build
from pathasst.nn.heads import HeadOutput
from pathasst.tools.lbc_classify import BETHESDA, CELLS, FIELDS, GRADES, LbcClassify


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


needs_weights = pytest.mark.skipif(bool(LbcClassify.missing()), reason="fetch the weights: pathasst models pull")


@needs_weights
@pytest.mark.parametrize(("side", "kind"), [(90, "cell"), (512, "field")])
def test_of_a_picture_only_what_was_labelled_is_said(side, kind):
    from pathasst.nn import heads

    result = call(LbcClassify(), smear(side, side))
    classes = GRADES if kind == "cell" else heads.load(FIELDS).classes
    assert result.numbers["judged_as"] == kind and set(result.numbers["probabilities"]) == set(classes)
    assert FIELDS in result.version and CELLS in result.version


@pytest.mark.parametrize(
    ("odds", "distance", "grade", "reason"),
    [
        ((0.97, 0.02, 0.01), 0.5, "normal", ""),
        ((0.80, 0.15, 0.05), 0.5, None, "an abnormal cell is not excluded"),
        ((0.01, 0.04, 0.95), 0.5, "high grade", ""),
        ((0.01, 0.04, 0.95), 1.1, None, "unlike the crops of single cells"),
    ],
)
def test_a_cell_gets_a_grade_or_a_refusal_and_never_a_bethesda_class(odds, distance, grade, reason, monkeypatch):
    from pathasst.nn import heads

    head = heads.Head(GRADES, {}, least=(0.9, 0.6, 0.6))
    monkeypatch.setattr(heads.Head, "__call__", lambda self, pictures: HeadOutput(np.array([odds]), np.array([distance])))
    monkeypatch.setattr(heads, "load", lambda id: head)
    result = LbcClassify().run(LbcClassify.arguments(), smear(90, 90))
    assert result.numbers["class"] is None and result.numbers["grade"] == grade
    assert bool(result.annotations) == bool(result.pictures) == bool(grade)
    assert (reason in result.warnings[0] and result.text.startswith("No grade is stated")) if reason else not result.warnings


@needs_weights
@pytest.mark.real
def test_hardly_an_abnormal_cell_is_stated_to_be_normal(real_data):
    """Every twelfth cell of Herlev: seen in training, so this is the least that must hold."""
    import csv

    from pathasst.imaging.pictures import load

    with (real_data / "herlev/labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))[::12]
    tool = LbcClassify()
    grades = [tool.run(LbcClassify.arguments(), load(real_data / "herlev" / r["file"])).numbers["grade"] for r in rows]
    abnormal = [g for g, r in zip(grades, rows, strict=True) if not r["label"].startswith("normal")]
    assert len(abnormal) > 15 and abnormal.count("normal") <= 1 and any(abnormal)


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
