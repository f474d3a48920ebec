"""A real, tiny training: the loss falls, dots are found, and a killed run goes on as if nothing had happened."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from pathasst.core.errors import BadInput
from pathasst.nn.p2pnet import train as training
from pathasst.nn.p2pnet.data import LabelledField
from pathasst.nn.p2pnet.infer import Cells, save
from pathasst.nn.p2pnet.model import P2PNet
from pathasst.nn.p2pnet.settings import P2PNetSettings, PointData, PointTraining
from pathasst.nn.p2pnet.train import best_thresholds, start_from, train


def draw_dots(folder, pictures: int = 6) -> str:
    """Pictures of brown and blue discs on a pale ground, with their centres."""
    import cv2

    rng = np.random.default_rng(5)
    rows = []
    for i in range(pictures):
        image = np.full((160, 160, 3), (238, 236, 232), np.uint8)
        for gx in range(4):
            for gy in range(4):
                if rng.random() < 0.7:
                    x, y = (int(v) for v in np.array([gx, gy]) * 40 + rng.integers(12, 28, 2))
                    brown = rng.random() < 0.5
                    cv2.circle(image, (x, y), 6, (110, 65, 30) if brown else (110, 125, 190), -1, cv2.LINE_AA)
                    rows.append([f"{i}.png", x + 0.5, y + 0.5, "positive" if brown else "negative"])
        Image.fromarray(image).save(folder / f"{i}.png")
    with (folder / "points.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["image", "x", "y", "label"], *rows])
    return str(folder / "points.csv")


@pytest.fixture
def settings(tmp_path) -> PointTraining:
    model = P2PNetSettings(classes=("positive", "negative"), channels=(8, 16, 24, 32), strides=(4, 8), neck=24, hidden=32)
    data = PointData(points=draw_dots(tmp_path), val=("4",), test=("5",))
    return PointTraining(
        model=model, data=(data,), steps=90, batch=4, crop=96, lr=4e-3, warmup=0.1, ema=0.95, save_every=20, precision="fp32"
    )


def test_the_loss_falls_and_the_dots_are_found(settings, tmp_path):
    lines = []
    scores = train(settings.replace(evaluate_every=60), tmp_path / "out", lines.append)
    losses = [line["class"] for line in lines if "class" in line]
    assert losses[-1] < 0.5 * losses[0]
    measured = {line["step"]: line["f1"] for line in lines if "f1" in line}
    assert list(measured) == [60, 90] and scores["val"]["fields"] == 1
    assert scores["test"]["detection"]["f1"] > 0.8 and scores["test"]["fields"] == 1
    assert scores["test"]["positive"]["f1"] > 0.6
    written = json.loads((tmp_path / "out" / "scores.json").read_text())["scores"]
    assert written == scores
    assert not (tmp_path / "out" / "checkpoints").exists() and (tmp_path / "out" / "model.safetensors").exists()


def test_a_killed_training_goes_on_and_ends_with_the_same_weights(settings, tmp_path, monkeypatch):
    torch.use_deterministic_algorithms(True, warn_only=True)
    short = settings.replace(steps=16, save_every=5)
    train(short, tmp_path / "a")
    calls = {"n": 0}
    loss = training.PointTask.loss

    def dying(*arguments):
        calls["n"] += 1
        if calls["n"] > 12:
            raise KeyboardInterrupt
        return loss(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training.PointTask, "loss", dying)
        train(short, tmp_path / "b")
    torch.manual_seed(99)  # what the new process starts with must not matter
    train(short, tmp_path / "b")
    torch.use_deterministic_algorithms(False)
    whole, broken = (load_file(tmp_path / name / "model.safetensors") for name in "ab")
    assert all(torch.equal(whole[key], broken[key]) for key in whole)


def test_a_source_without_a_validation_split_still_gets_a_threshold(settings, tmp_path):
    plain = settings.replace(steps=2, data=(settings.data[0].replace(val=(), test=()),))
    chosen = train(plain, tmp_path / "out")["thresholds"]
    assert list(chosen) == list(plain.model.classes) and all(0.2 <= v <= 0.8 for v in chosen.values())


def test_each_class_gets_the_threshold_that_suits_it():
    """Wrong positives score up to 0.3, wrong negatives up to 0.6; right ones more."""
    right = [(0, 0.5), (0, 0.9), (1, 0.7), (1, 0.9)]
    found = [*right, (0, 0.3), (1, 0.6)]
    points = np.array([[50.0 * i, 0] for i in range(len(found))], np.float32)
    labels, scores = (np.array([c[k] for c in found]) for k in (0, 1))
    field = LabelledField("", "", np.zeros((8, 8, 3), np.uint8), points[: len(right)], labels[: len(right)])

    class Known:
        settings = P2PNetSettings(classes=("positive", "negative"))

        def __call__(self, image: np.ndarray, min_score: float) -> Cells:
            return Cells(points, labels, scores)

    (positive, negative), _ = best_thresholds(Known(), [field])
    assert 0.3 < positive <= 0.5 and 0.6 < negative <= 0.7


def test_a_backbone_can_start_from_timm_weights_and_refuses_anothers(settings, tmp_path):
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(3)
    plain = P2PNetSettings(classes=("a",), backbone="resnet18", neck=16, hidden=16)
    theirs = timm.create_model("resnet18").state_dict()
    save_file(theirs, tmp_path / "resnet18.safetensors")
    net = P2PNet(plain)
    assert start_from(net, tmp_path / "resnet18.safetensors") > 60
    assert torch.equal(net.backbone.body.layer1[0].conv1.weight, theirs["layer1.0.conv1.weight"])
    with pytest.raises(BadInput, match="fits"):
        start_from(P2PNet(settings.model), tmp_path / "resnet18.safetensors")


def test_a_whole_network_can_be_tuned_further_and_other_classes_get_a_new_head(settings, tmp_path):
    torch.manual_seed(3)
    trained = P2PNet(settings.model)
    save(trained, tmp_path / "trained")
    again, other = P2PNet(settings.model), P2PNet(settings.model.replace(classes=("a", "b", "c", "d")))
    everything = len(again.state_dict())
    assert start_from(again, str(tmp_path / "trained")) == everything
    assert torch.allclose(again.classify[-1].weight, trained.classify[-1].weight, atol=1e-3)  # stored in half precision
    new = other.classify[-1].weight.clone()
    assert start_from(other, str(tmp_path / "trained")) == everything - 2
    assert torch.equal(other.classify[-1].weight, new)
    assert torch.allclose(other.regress[0].weight, trained.regress[0].weight, atol=1e-3)


def test_the_index_is_compared_by_field_and_over_all_cells():
    def cells(classes: list[int]) -> Cells:
        rows = np.arange(len(classes), dtype=np.float32)
        return Cells(np.stack([rows * 30 + 5, rows * 0 + 5], 1), np.array(classes), np.ones(len(classes), np.float32))

    def field(classes: list[int]) -> LabelledField:
        return LabelledField("", "", np.zeros((9, 9, 3), np.uint8), cells(classes).points, np.array(classes))

    # labelled 2 of 4 and 0 of 16 positive; found 4 of 4 and 0 of 12
    found = [(field([0, 0, 1, 1]), cells([0, 0, 0, 0])), (field([1] * 16), cells([1] * 12))]
    scores = training._scores(found, [0, 1], ["positive", "negative"])
    assert scores["index_error"] == {"mean": 25.0, "max": 50.0, "together": 15.0}
    assert training._scores([(field([]), cells([0]))], [0, 1], ["positive", "negative"])["index_error"] == {}
