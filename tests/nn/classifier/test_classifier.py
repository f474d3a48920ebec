"""A real, tiny training: shapes are told apart, a killed run goes on, and what is on disk is what was measured."""

import csv
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from pathasst.core import weights
from pathasst.core.errors import BadDataset, BadInput, BadSettings
from pathasst.nn import multiscale
from pathasst.nn.classifier import Classifier, ClassifierItem, ClassifierTraining, read_items, train, training
from pathasst.nn.classifier.model import build, start_from
from pathasst.nn.classifier.settings import ClassifierConfig

TINY = {"channels": (8, 16, 24, 32)}


def picture(label: str, rng: np.random.Generator) -> np.ndarray:
    """A disc or a ring on a pale ground."""
    image = np.full((48, 56, 3), (225, 215, 230), np.uint8)
    centre = tuple(int(v) for v in rng.integers(20, 30, 2))
    cv2.circle(image, centre, 12, (90, 40, 120), -1 if label == "disc" else 4, cv2.LINE_AA)
    return image


def items(groups: int = 12, copies: int = 3) -> list[ClassifierItem]:
    rng = np.random.default_rng(1)
    return [
        ClassifierItem(picture(label, rng), label, f"{label}{g}")
        for label in ("disc", "ring")
        for g in range(groups)
        for _ in range(copies)
    ]


@pytest.fixture
def settings() -> ClassifierTraining:
    return ClassifierTraining(
        backbone="resnet18", options=TINY, start="", size=32, steps=60, batch=12, lr=1e-2, backbone_rate=1.0,
        minutes=0, ema=0.9, evaluate_every=20, precision="fp32", zoom=0.05, colour=0.05,
    )  # fmt: skip


def test_it_learns_and_what_is_saved_is_what_was_measured(settings, tmp_path):
    lines = []
    scores = train(settings, items(), tmp_path, log=lines.append)
    assert scores["test"]["macro_f1"]["value"] > 0.9 and 4 <= scores["test"]["groups"] <= 6
    assert json.loads((tmp_path / "scores.json").read_text())["scores"] == json.loads(json.dumps(scores))
    assert not (tmp_path / "checkpoints").exists() and len(lines) >= 3
    classifier = Classifier.load(tmp_path)
    assert classifier.classes == ("disc", "ring") and classifier.config.temperature == 1  # too few to fit it
    rng = np.random.default_rng(7)
    found = classifier.predict([picture("disc", rng), np.tile(picture("ring", rng), (2, 2, 1))[:48, :56]])
    assert found.dtype == np.float32 and found.shape == (2, 2) and np.allclose(found.sum(1), 1, atol=1e-5)
    assert found.argmax(1).tolist() == [0, 1]
    # From these weights but with the classes the other way round the old head is all wrong: the probe puts it right.
    other = settings.replace(start=str(tmp_path / "model.safetensors"), classes=("ring", "disc"), steps=1, lr=1e-6)
    assert train(other.replace(probe=0), items(), tmp_path / "without")["test"]["macro_f1"]["value"] < 0.3
    assert train(other.replace(probe=2), items(), tmp_path / "with")["test"]["macro_f1"]["value"] > 0.8


def test_a_killed_training_goes_on_to_the_same_weights(settings, tmp_path, monkeypatch):
    short = settings.replace(steps=12, save_every=4)
    whole = train(short, items(6), tmp_path / "a")
    calls = {"n": 0}
    loss = training.ClassifierTask.loss

    def dying(self, *arguments):
        calls["n"] += 1
        if calls["n"] > 9:
            raise KeyboardInterrupt
        return loss(self, *arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training.ClassifierTask, "loss", dying)
        train(short, items(6), tmp_path / "b")
    torch.manual_seed(99)
    assert train(short, items(6), tmp_path / "b")["val"] == whole["val"]
    a, b = (Classifier.load(tmp_path / k).network.state_dict() for k in "ab")
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_frozen_parts_stay_as_they_were(settings, tmp_path):
    frozen = settings.replace(steps=3, freeze=("conv1", "bn1"))
    torch.manual_seed(frozen.seed)
    before = build(frozen.config(("disc", "ring"))).state_dict()
    train(frozen, items(6), tmp_path)
    after = Classifier.load(tmp_path).network.state_dict()
    for key in ("conv1.weight", "bn1.running_mean"):
        assert torch.allclose(before[key], after[key], atol=1e-3), key
    assert not torch.allclose(before["fc.weight"], after["fc.weight"], atol=1e-4)


@pytest.mark.skipif(not weights.present("efficientnet-lite0"), reason="pathasst models pull efficientnet-lite0")
def test_a_head_alone_on_every_depth_of_lite0_is_small(tmp_path):
    alone = ClassifierTraining(backbone=multiscale.NAME, size=32, steps=0, minutes=0, zoom=0.05, colour=0.05, precision="fp32")
    scores = train(alone, items(), tmp_path)
    assert scores["test"]["macro_f1"]["value"] > 0.9
    assert set(load_file(tmp_path / "model.safetensors")) == {"classifier.weight", "classifier.bias"}
    assert Classifier.load(tmp_path).features([picture("disc", np.random.default_rng(0))]).shape == (1, 6192)


def test_items_of_a_folder_and_of_a_table_with_boxes(tmp_path):
    rng = np.random.default_rng(0)
    for label in ("disc", "ring"):
        (tmp_path / "set" / label).mkdir(parents=True)
        for n in range(2):
            Image.fromarray(picture(label, rng)).save(tmp_path / "set" / label / f"{n}.png")
    assert [i.label for i in read_items(tmp_path / "set")] == ["disc", "disc", "ring", "ring"]
    with (tmp_path / "set" / "t.csv").open("w", newline="") as file:
        rows = [
            ["path", "label", "slide", "xmin", "ymin", "xmax", "ymax"],
            ["disc/0.png", "a", "s1", -4, 0, 16, 20],
            ["ring/0.png", "b", "s2", 0, 0, 10, 10],
        ]
        csv.writer(file).writerows(rows)
    first, second = read_items(tmp_path / "set" / "t.csv", "slide")
    assert (first.group, second.label) == ("s1", "b")
    seen = training.read_picture(first)
    assert seen.shape == (20, 20, 3)
    assert np.array_equal(seen[:, 0], seen[:, 7])  # beyond the edge the picture is mirrored
    with pytest.raises(BadDataset, match="no column"):
        read_items(tmp_path / "set" / "t.csv", "patient")
    with pytest.raises(BadInput, match="box"):
        training.read_picture(replace(first, box=(100, 0, 120, 20)))


def test_a_torch_checkpoint_in_the_papers_layout_fills_a_convnext(tmp_path):
    import timm

    small = {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)}
    theirs = timm.create_model("convnext_tiny", num_classes=0, **small).state_dict()
    state = {f"model_global.{k}": v for k, v in theirs.items()} | {"fc.weight": torch.ones(2, 32), "fc.bias": torch.zeros(2)}
    torch.save({"model": state}, tmp_path / "released.pt")
    network = build(ClassifierConfig(classes=("a", "b"), backbone="convnext_tiny", options=small))
    start_from(network, str(tmp_path / "released.pt"))
    assert torch.equal(network.stem[0].weight, theirs["stem.0.weight"]) and torch.equal(network.head.fc.weight, torch.ones(2, 32))
    with pytest.raises(BadInput, match="fits"):
        start_from(build(ClassifierConfig(classes=("a", "b"), backbone="resnet18", options=TINY)), str(tmp_path / "released.pt"))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"val": 0.0}, BadSettings),
        ({"test": 0.95}, BadSettings),
        ({"steps": -1}, BadSettings),
        ({"steps": 0, "start": ""}, BadSettings),
    ],
)
def test_settings_that_cannot_work_are_refused(change, error):
    with pytest.raises(error):
        ClassifierTraining(**change)


def test_what_cannot_be_loaded_or_trained_says_why(settings, tmp_path):
    with pytest.raises(BadInput, match=r"config\.json"):
        Classifier.load(tmp_path)
    with pytest.raises(BadDataset, match="no class"):
        train(settings.replace(classes=("disc", "square")), items(6), tmp_path)
    with pytest.raises(BadSettings, match="timm"):
        build(ClassifierConfig(classes=("a", "b"), backbone="no_such_network"))


@pytest.mark.parametrize("name", ["embedded/lbc", "paper/lbc"])
def test_every_shipped_recipe_is_read(name, tmp_path):
    from pathasst.core.recipes import recipes_dir

    settings = ClassifierTraining.load(recipes_dir() / f"{name}.yaml").rooted(tmp_path)
    assert settings.data and all(s.path.startswith(str(tmp_path)) for s in settings.data)
    assert settings.config(settings.classes or ("a", "b")).backbone


def test_a_recipe_with_a_typing_error_is_refused(tmp_path):
    (tmp_path / "r.yaml").write_text("stepz: 3\n")
    with pytest.raises(BadSettings, match=r"stepz; did you mean steps\?"):
        ClassifierTraining.load(tmp_path / "r.yaml")


def test_old_names_say_the_new_ones():
    for old, new in {"validation": "val", "evaluations": "evaluate_every", "bf16": "precision", "clip": "clip_norm"}.items():
        with pytest.raises(BadSettings, match=new):
            ClassifierTraining.of({old: 1})
