"""A real, tiny training on drawn nuclei: they are found, runs resume, patients are never divided."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from pathasst.core.errors import BadDataset, BadInput, BadSettings
from pathasst.nn.nuclei import train as nuclei_train
from pathasst.nn.nuclei.data import NucleiCrops, median_area, read_fields, recolour, split_fields
from pathasst.nn.nuclei.infer import Segmenter, load
from pathasst.nn.nuclei.settings import NucleiData, NucleiSettings, NucleiTraining
from pathasst.nn.nuclei.train import table, train

TINY = NucleiSettings(widths=(16, 16, 16, 16), um_per_px=0.5, nucleus=36.0)


def draw(folder: Path, pictures: int = 5, side: int = 128) -> Path:
    """Violet discs on pink with numbered masks: `images` and `masks`."""
    rng = np.random.default_rng(3)
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    for n in range(pictures):
        image, mask = np.full((side, side, 3), (233, 190, 215), np.uint8), np.zeros((side, side), np.uint16)
        for number, (gx, gy) in enumerate(np.ndindex(5, 5), start=1):
            x, y = (int(v) for v in np.array([gx, gy]) * 24 + rng.integers(10, 18, 2))
            cv2.circle(image, (x, y), 7, (88, 52, 140), -1, cv2.LINE_AA)
            cv2.circle(mask, (x, y), 7, number, -1)
        Image.fromarray(image).save(folder / "images" / f"p{n // 2}_{n}.png")
        Image.fromarray(mask).save(folder / "masks" / f"p{n // 2}_{n}.png")
    return folder


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> Path:
    return draw(tmp_path_factory.mktemp("nuclei") / "drawn")


@pytest.fixture(scope="module")
def trained(labelled, tmp_path_factory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("out")
    data = NucleiData(source=str(labelled), um_per_px=0.5, group="^(p\\d+)_", test=0.34)
    settings = NucleiTraining(
        model=TINY, data=(data,), steps=40, batch=4, crop=96, lr=4e-3, ema=0.9, start="", frozen=0, precision="fp32", workers=0
    )
    return out, train(settings, out)


def test_drawn_nuclei_are_found_on_unseen_pictures(trained):
    out, scores = trained
    measured = scores["test"]["drawn"]
    assert measured["F1@0.5"]["value"] > 0.8 and measured["pictures"] in (1, 2)
    assert json.loads((out / "scores.json").read_text())["scores"] == scores
    assert "| drawn |" in table(scores["test"])
    assert not (out / "checkpoints").exists()


def test_the_weights_that_suit_val_best_are_kept(labelled, tmp_path, monkeypatch):
    data = NucleiData(source=str(labelled), um_per_px=0.5, group="^(p\\d+)_", val=0.34)
    settings = NucleiTraining(
        model=TINY, data=(data,), steps=2, batch=1, crop=96, ema=0, start="", frozen=0, evaluate_every=1, keep=2, save_every=1,
        precision="fp32", workers=0,
    )  # fmt: skip
    worth = iter([0.9, 0.1, 0.1])
    monkeypatch.setattr(nuclei_train, "best_thresholds", lambda *_: ({"min_centre": 0.2}, next(worth)))
    train(settings, tmp_path)
    first, last = (torch.load(tmp_path / "checkpoints" / f"step-0000000{n}", weights_only=True)["model"] for n in (1, 2))
    network = load(tmp_path).state_dict()

    def distance(state: dict[str, torch.Tensor]) -> float:
        return sum(float((network[name].float() - state[name].float()).abs().sum()) for name in network)

    assert distance(first) < distance(last)


def test_a_picture_of_another_scale_is_read_at_the_right_one(trained, labelled):
    segmenter = Segmenter.load(trained[0])
    image = np.asarray(Image.open(labelled / "images" / "p0_0.png"))
    known = segmenter(image, um_per_px=0.5)
    large = cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    assert known.scale == 1 and known.labels.shape == (128, 128) and len(known) == known.labels.max()
    assert abs(len(segmenter(large, um_per_px=0.25)) - len(known)) <= 2
    assert segmenter(large).scale == pytest.approx(segmenter(image).scale / 2, rel=0.25)
    tiled = Segmenter(segmenter.model, tile=96, overlap=48)(image, um_per_px=0.5)
    assert abs(len(tiled) - len(known)) <= 2


def test_patients_are_never_divided_and_a_whole_source_can_be_unseen(labelled):
    data = NucleiData(source=str(labelled), group="^(p\\d+)_", val=0.34, test=0.34)
    fields = read_fields(data, TINY)
    splits = split_fields(fields, data, 0)
    groups = [{f.group for f in part} for part in splits.values()]
    assert sum(map(len, splits.values())) == 5 and not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])
    assert len(split_fields(fields, data.replace(val=0.0, test=1.0), 0)["test"]) == 5
    assert fields[0].factor == pytest.approx(np.sqrt(TINY.nucleus / median_area(fields[0].labels)) / TINY.um_per_px)


def test_the_same_place_gives_the_same_crop(labelled):
    data = NucleiData(source=str(labelled), um_per_px=0.5)
    crops = NucleiCrops(read_fields(data, TINY), NucleiTraining(model=TINY, data=(data,), crop=64))
    first, again = crops.batch(3, range(2)), crops.batch(3, range(2))
    assert all((a == b).all() for a, b in zip(first, again, strict=True)) and first[0].shape == (2, 3, 64, 64)
    assert (first[0] != crops.batch(4, range(2))[0]).any()
    image = np.full((8, 8, 3), (200, 120, 170), np.uint8)
    assert recolour(image, np.random.default_rng(0), 0.05, 0.2).shape == image.shape


def test_what_is_no_source_or_no_checkpoint_is_refused(tmp_path, labelled):
    with pytest.raises(BadDataset, match="images and masks"):
        read_fields(NucleiData(source=str(tmp_path / "none")), TINY)
    with pytest.raises(BadSettings, match="range of positive"):
        NucleiTraining(data=(), zoom=(2.0, 1.0))
    with pytest.raises(BadDataset, match="no picture is left"):
        train(NucleiTraining(model=TINY, data=(NucleiData(source=str(labelled), test=1.0),), start=""), tmp_path / "out")
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(BadInput, match="no nuclei checkpoint"):
        load(tmp_path)
