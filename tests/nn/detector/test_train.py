"""Training: the loss falls, a killed run goes on to the same weights, weights to start from, recipes, the command line."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from pathasst.core.errors import BadDataset, BadInput, BadSettings
from pathasst.core.recipes import recipes_dir
from pathasst.nn.detector import infer
from pathasst.nn.detector import train as room
from pathasst.nn.detector.nets import build
from pathasst.nn.detector.settings import DetectorSettings, DetectorTraining

torch.set_num_threads(1)


def test_what_a_training_leaves_behind(trained):
    folder, scores = trained
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < 0.8 * losses[0]
    assert sum("map50" in line for line in lines) == 2  # at steps 40 and 80
    assert (folder / "curves.png").stat().st_size > 5_000
    assert not (folder / "checkpoints").exists()
    assert (folder / "model.safetensors").stat().st_size < 5_000_000
    config = json.loads((folder / "config.json").read_text())
    assert 0.05 <= config["settings"]["min_score"] <= 0.9
    assert set(scores) == {"val", "test"}
    assert "red" in (folder / "scores.md").read_text()


def test_a_killed_training_goes_on_to_the_same_weights(tmp_path, splits, monkeypatch, settings):
    settings = settings.replace(steps=8, save_every=4, evaluate_every=100, precision="fp32")
    part = {"train": splits["train"]}
    room.train(settings, tmp_path / "whole", part)
    steps = 0
    loss = room.DetectorTask.loss

    def killed(*given):
        nonlocal steps
        steps += 1
        if steps == 7:
            raise KeyboardInterrupt
        return loss(*given)

    monkeypatch.setattr(room.DetectorTask, "loss", killed)
    with pytest.raises(KeyboardInterrupt):
        room.train(settings, tmp_path / "cut", part)
    monkeypatch.setattr(room.DetectorTask, "loss", loss)
    room.train(settings, tmp_path / "cut", part)
    whole, cut = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(whole[k], cut[k]) for k in whole)


def test_minutes_end_a_training(tmp_path, splits, settings):
    room.train(settings.replace(steps=10_000, minutes=0.02), tmp_path, {"train": splits["train"]})
    assert json.loads((tmp_path / "config.json").read_text())["step"] < 500


def test_a_training_without_a_single_box_is_refused(tmp_path, discs, settings):
    empty = discs(1, count=0)
    with pytest.raises(BadDataset, match="has a box"):
        room.train(settings, tmp_path, {"train": [empty]})


@pytest.mark.parametrize("architecture", ["lite0", "yolov7"])
def test_both_networks_lower_their_loss_on_one_picture(architecture, discs):
    torch.manual_seed(0)
    network = build(DetectorSettings(classes=("red", "blue"), architecture=architecture, channels=32, blocks=1))
    picture = discs(3)
    pixels = torch.from_numpy(picture.pixels()[:64, :96].copy()).permute(2, 0, 1)[None].float()
    boxes = [torch.from_numpy(picture.boxes[picture.boxes[:, 3] <= 64])]
    labels = [torch.from_numpy(picture.labels[picture.boxes[:, 3] <= 64])]
    optimiser = torch.optim.AdamW(network.parameters(), 1e-3)
    losses = []
    for _ in range(6):
        found = network.loss(network(pixels), boxes, labels)
        optimiser.zero_grad()
        found["total"].backward()
        optimiser.step()
        losses.append(float(found["total"].detach()))
    assert min(losses[3:]) < losses[0]
    network.eval()
    with torch.no_grad():
        where, scores = network.decode(network(pixels))
    assert where.shape[:2] == scores.shape[:2]
    assert scores.shape[2] == 2
    assert ((scores >= 0) & (scores <= 1)).all()


def test_weights_of_an_earlier_detector_are_taken_and_a_strangers_refused(trained, tmp_path, settings):
    settings = settings.replace(start=str(trained[0]), model=settings.model.replace(classes=("red", "blue", "green")))
    network = room.start_network(settings)
    kept = load_file(trained[0] / "model.safetensors")["body.conv_stem.weight"]
    assert torch.equal(network.state_dict()["body.conv_stem.weight"].half(), kept)
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(BadInput, match="fits 0"):
        room.start_network(settings.replace(start=str(tmp_path / "x.safetensors")))
    (tmp_path / "y.pt").write_bytes(b"no weights")
    with pytest.raises(BadInput, match="plain weights"):
        room.start_network(settings.replace(start=str(tmp_path / "y.pt")))


def test_weights_that_leave_out_their_base_are_started_from_with_it(tmp_path, settings):
    model = settings.model.replace(base="efficientnet-lite0")
    network = build(model, pretrained=True, frozen="convolutions")
    infer.save(network, model, tmp_path)
    assert "body.conv_stem.weight" not in load_file(tmp_path / "model.safetensors")
    started = room.start_network(settings.replace(start=str(tmp_path), model=model, frozen="convolutions"))
    kept = network.state_dict()
    assert all(torch.equal(value.half(), kept[name].half()) for name, value in started.state_dict().items())


@pytest.mark.parametrize(
    ("frozen", "still_there", "learning"),
    [
        ("none", (), ("body.conv_stem.weight",)),
        ("early", ("body.conv_stem.weight", "body.bn1.bias"), ("body.blocks.2.0.conv_pw.weight",)),
        ("convolutions", ("body.conv_stem.weight", "body.blocks.5.0.conv_pw.weight"), ("body.blocks.5.0.bn1.bias",)),
        ("body", ("body.bn1.bias", "body.blocks.5.0.conv_pw.weight"), ("lateral.0.weight",)),
    ],
)
def test_what_is_frozen_does_not_learn(settings, splits, frozen, still_there, learning):
    network = room.start_network(settings.replace(frozen=frozen))
    still = {name for name, p in network.named_parameters() if not p.requires_grad}
    assert still >= set(still_there)
    assert still.isdisjoint(learning)
    assert not any(n.startswith(("head", "neck")) for n in still)
    task = room.DetectorTask(settings.replace(frozen=frozen), splits)
    trainable = sum(len(g["params"]) for g in task.optimizer(settings).param_groups)
    assert trainable == sum(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize(
    "recipe", sorted(recipes_dir().glob("*/blood.yaml")) + sorted(recipes_dir().glob("*/lbc_detect.yaml")), ids=str
)
def test_the_recipes_are_valid(recipe):
    settings = DetectorTraining.load(recipe)
    assert settings.data[0].boxes.endswith(".csv")
    assert settings.model.architecture == ("yolov7" if "paper" in str(recipe) else "lite0")


def test_a_wrong_setting_is_named(tmp_path, settings):
    (tmp_path / "r.yaml").write_text("model: {classes: [a]}\nstep: 3\n")
    with pytest.raises(BadSettings, match="step"):
        DetectorTraining.load(str(tmp_path / "r.yaml"))
    with pytest.raises(BadSettings, match="crop"):
        settings.replace(crop=100)
    with pytest.raises(BadSettings, match="frozen"):
        settings.replace(frozen="all")


def test_the_command_trains_on_a_csv(tmp_path, discs):
    import cv2

    from pathasst.cli.train import app

    rows = ["image,split,label,xmin,ymin,xmax,ymax"]
    for i in range(6):
        picture = discs(i)
        cv2.imwrite(str(tmp_path / picture.name), picture.pixels()[..., ::-1])
        kinds = ["red", "blue"]
        part = "train" if i < 4 else "val"
        rows += [
            f"{picture.name},{part},{kinds[c]},{','.join(map(str, b))}"
            for b, c in zip(picture.boxes, picture.labels, strict=True)
        ]
    (tmp_path / "boxes.csv").write_text("\n".join(rows))
    recipe = "model: {classes: [red, blue], channels: 16, blocks: 1, size: 96, scale: 1.0, overlap: 48}\n"
    recipe += "data: [{boxes: boxes.csv}]\nstart: ''\ncrop: 64\nbatch: 2\nsteps: 4\nworkers: 0\n"
    (tmp_path / "r.yaml").write_text(recipe)
    run = CliRunner().invoke(app, ["detector", str(tmp_path / "r.yaml"), "--out", str(tmp_path / "out")])
    assert run.exit_code == 0, run.output
    assert "val, 2 pictures" in run.output
