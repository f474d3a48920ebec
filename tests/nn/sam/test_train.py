"""Tuning a mask decoder on the user's own objects: what is learnt is used, a killed run goes on, points lie within."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pathasst.core import weights
from pathasst.core.errors import BadDataset, BadInput, BadSettings
from pathasst.nn.sam import train as sam_train
from pathasst.nn.sam.masks import Object, Outlined
from pathasst.nn.sam.model import Sam
from pathasst.nn.sam.overlaps import inner_point, overlaps
from pathasst.nn.sam.train import SegmentTraining, train

GAIN = ("box", "point")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """A SAM in transformers' layout, small and untrained."""
    from transformers import SamConfig, SamMaskDecoderConfig, SamModel, SamPromptEncoderConfig, SamVisionConfig

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("sam")
    vision = SamVisionConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, output_channels=16, num_pos_feats=8, mlp_dim=16
    )
    prompts = SamPromptEncoderConfig(hidden_size=16, mask_input_channels=4)
    decoder = SamMaskDecoderConfig(hidden_size=16, mlp_dim=16, num_attention_heads=2, iou_head_hidden_dim=16)
    SamModel(SamConfig(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder)).save_pretrained(folder)
    return folder


def discs(count: int = 3) -> list[Outlined]:
    """Pictures of one dark disc each."""
    import cv2

    made = []
    for n in range(count):
        mask = np.zeros((64, 96), np.uint8)
        cv2.circle(mask, (30 + 15 * n, 30), 12, 1, -1)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        part = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(bool)
        image = np.full((64, 96, 3), 230, np.uint8)
        image[mask > 0] = (90, 50, 120)
        made.append(outlined(f"p{n}_1.png", image, Object(int(columns[0]), int(rows[0]), part)))
    return made


def outlined(name: str, image: np.ndarray, *objects: Object, split: str = "") -> Outlined:
    """A labelled picture in memory."""
    return Outlined(name, split, lambda: (image, list(objects)))


def test_the_loss_falls_and_the_tuned_decoder_answers(tiny, tmp_path):
    lines = []
    settings = SegmentTraining(start=str(tiny), steps=60, prompts=1, lr=5e-3, val=0.34, points=0.0, evaluate_every=40)
    scores = train(settings, discs(), tmp_path / "out", lines.append)
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < 0.7 * losses[0]
    measured = {line["step"]: line["iou"] for line in lines if "iou" in line}
    kept = np.mean([scores["after"][name]["iou"]["value"] for name in GAIN])
    assert list(measured) == [40, 60] and max(measured.values()) == pytest.approx(kept, abs=1e-4)
    assert scores["pictures"] == 2 and scores["val"] == scores["after"]["objects"] == 1
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["scores"] == scores
    assert not (tmp_path / "out" / "checkpoints").exists()
    before, after = Sam(tiny), Sam(tmp_path / "out")
    held = sam_train._parts(settings, discs())[1]
    assert overlaps(after, held).plain() == scores["after"] != scores["before"] == overlaps(before, held).plain()
    gained = {name: overlaps(after, held).plain()[name]["iou"]["value"] - scores["before"][name]["iou"]["value"] for name in GAIN}
    assert {name: scores["gain"][name]["value"] for name in GAIN} == pytest.approx(gained)
    assert after.name == "SAM" and weights.version(str(tmp_path / "out")).partition("@")[2] != "unknown"
    for key, value in before.network.vision_encoder.state_dict().items():
        assert torch.equal(value, after.network.vision_encoder.state_dict()[key])
    ours, theirs = (next(s.network.mask_decoder.parameters()) for s in (after, before))
    assert not torch.equal(ours, theirs)


def test_a_killed_run_goes_on_and_ends_with_the_same_decoder(tiny, tmp_path, monkeypatch):
    settings = SegmentTraining(start=str(tiny), steps=12, prompts=1, val=0.0, save_every=4)
    train(settings, discs(), tmp_path / "a")
    real, calls = sam_train._loss, []

    def dying(*arguments):
        calls.append(1)
        if len(calls) > 9:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(sam_train, "_loss", dying)
    with pytest.raises(KeyboardInterrupt):
        train(settings, discs(), tmp_path / "b")
    monkeypatch.setattr(sam_train, "_loss", real)
    train(settings, discs(), tmp_path / "b")
    one, other = (Sam(tmp_path / name).network.mask_decoder.state_dict() for name in "ab")
    assert all(torch.allclose(value, other[key], atol=1e-5) for key, value in one.items())


def test_a_point_lies_within_and_the_measuring_one_deep_inside():
    ring = np.ones((21, 21), bool)
    ring[4:17, 4:17] = False
    ring[:, 17:] = False
    one = Object(100, 50, ring)
    rng = np.random.default_rng(0)
    for x, y in [inner_point(one), *(inner_point(one, rng) for _ in range(20))]:
        assert one.full_mask(200, 200)[int(y), int(x)]
    assert inner_point(Object(10, 20, np.ones((9, 9), bool))) == (14.5, 24.5)


def test_splits_of_the_labels_are_kept_and_nothing_to_train_on_is_refused():
    named = [replace(p, split=s) for p, s in zip(discs(), ("train", "val", "test"), strict=True)]
    learn, held = sam_train._parts(SegmentTraining(), named)
    assert [p.split for p in learn] == ["train"] and [p.split for p in held] == ["val", "test"]
    with pytest.raises(BadDataset, match="train"):
        sam_train._parts(SegmentTraining(), named[1:])


def test_a_patient_lies_on_one_side():
    empty = np.zeros((9, 9, 3), np.uint8)
    fields = [outlined(f"ROI_{patient}_{field}.jpg", empty) for patient in range(10) for field in (1, 2, 3)]
    for seed in range(5):
        parts = sam_train._parts(SegmentTraining(group="_([0-9]+)_", val=0.3, seed=seed), fields)
        learn, held = ({p.name.split("_")[1] for p in part} for part in parts)
        assert len(held) == 3 and len(learn) == 7 and not learn & held
        assert sum(map(len, parts)) == 30


def test_a_broken_mask_costs_its_own_picture(tiny, tmp_path):
    def broken():
        raise BadInput("the mask is cut off")

    lines = []
    settings = SegmentTraining(start=str(tiny), steps=10, prompts=1, val=0.0)
    pictures = [*discs(1), Outlined("bad.png", "", broken), outlined("empty.png", np.zeros((64, 64, 3), np.uint8))]
    scores = train(settings, pictures, tmp_path / "out", lines.append)
    assert scores["pictures"] == 1 and lines[-1]["step"] == 10
    assert lines[:2] == [{"left out": reason} for reason in scores["skipped"]]  # before the work, not after it
    assert [reason.partition(":")[0] for reason in scores["skipped"]] == ["bad.png", "empty.png"]
    assert "cut off" in scores["skipped"][0] and "after" not in scores
    with pytest.raises(BadDataset, match=r"none of 2 pictures can be used.*cut off"):
        train(settings, pictures[1:], tmp_path / "none")


@pytest.mark.parametrize("recipe", ["embedded", "paper"])
def test_the_recipes_can_be_read(recipe):
    settings = SegmentTraining.load(recipe)
    assert settings.start in weights.registry()
    with pytest.raises(BadSettings):
        settings.replace(points=2.0)


def test_a_decoder_of_another_network_is_refused(tiny, tmp_path):
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "mask_decoder.safetensors", {"base": str(tiny)})
    with pytest.raises(BadInput, match="mask decoder"):
        Sam(tmp_path)
