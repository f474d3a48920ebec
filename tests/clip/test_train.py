from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pathasst.clip.build import ClipConfig, build
from pathasst.clip.data import load_pictures
from pathasst.clip.eval_callback import ValScores
from pathasst.clip.model import PathCLIPModel
from pathasst.clip.settings import ClipTraining
from pathasst.clip.student import encode_patches
from pathasst.clip.train import PICTURES, initial, train
from pathasst.core.errors import BadSettings
from pathasst.training import checkpoint


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, pairs: Path, tiny: dict) -> tuple[Path, dict]:
    """An uninterrupted run of 8 steps."""
    values = {
        **{"model": tiny, "data": [str(pairs)], "steps": 8, "batch": 8, "warmup": 0.25, "lr": 2e-3, "cache_side": 64},
        **{"keep_patches": 0.5, "save_every": 4, "threads": 1, "precision": "fp32"},
    }
    out = tmp_path_factory.mktemp("whole")
    train(ClipTraining(**values), out)
    return out, values


def test_stopped_and_resumed_equals_uninterrupted_bit_for_bit(whole: tuple[Path, dict], tmp_path: Path) -> None:
    out, values = whole
    train(ClipTraining(**values), tmp_path, stop_at=3)
    assert not (tmp_path / "model.safetensors").exists() and (tmp_path / PICTURES).exists()
    train(ClipTraining(**values, workers=0), tmp_path)  # how many processes prepare changes nothing
    assert not (tmp_path / PICTURES).exists()
    one, two = load_file(out / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


def test_killed_and_resumed_equals_uninterrupted(whole: tuple[Path, dict], tmp_path: Path) -> None:
    """kill -9 in the middle of a real run, in a process of its own."""
    out, values = whole
    program = (
        "import json, sys; from pathasst.clip.settings import *; from pathasst.clip.train import *\n"
        f"train(ClipTraining(**json.loads(sys.argv[1])), {str(tmp_path)!r}"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, json.dumps({**values})], env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    while process.poll() is None and not checkpoint.steps_saved(tmp_path):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    train(ClipTraining(**values), tmp_path)
    one, two = load_file(out / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(one[k], two[k]) for k in one)


def test_the_model_learns_to_tell_the_textures_apart(recipe_values: dict, tmp_path: Path, pairs: Path) -> None:
    recipe = ClipTraining(**{**recipe_values, "steps": 40, "batch": 16, "seed": 1})
    lines: list[dict] = []
    clip = train(recipe, tmp_path, log=lines.append)
    assert lines[-1]["loss"] < lines[0]["loss"]
    test = load_pictures([pairs], ["test"], 64)
    images = [s for s in test.images if s.label]
    odds = clip.classify([s.pixels for s in images], ["An image of bands", "An image of dots"])
    said = np.array(["textures/bands", "textures/dots"])[odds.argmax(axis=1)]
    assert (said == np.array([s.label for s in images])).mean() >= 0.9
    assert json.loads((tmp_path / "open_clip_config.json").read_text())["pathasst"]["recipe"]["seed"] == 1


def test_zero_shot_and_retrieval_are_evaluated_and_the_best_weights_kept(recipe_values: dict, tmp_path: Path) -> None:
    tasks = tmp_path / "tasks.yaml"
    classes = {k: {"prompt": k, "names": [k], "labels": [f"textures/{k}"]} for k in ("bands", "dots")}
    tasks.write_text(json.dumps({"textures": {"classes": classes}}))
    scores = ValScores(recipe_values["data"], str(tasks), split="test")
    recipe = ClipTraining(**{**recipe_values, "tasks": str(tasks), "steps": 2, "evaluate_every": 1})
    clip = train(recipe, tmp_path / "run")
    values = scores(clip)
    assert set(values) == {"textures F1", "image to text R@10", "text to image R@10"}
    assert values["text to image R@10"] == 1 and 0 <= values["textures F1"] <= 1  # only 2 captions of their own in the split
    assert ValScores(recipe_values["data"], str(tasks), split="val").tasks == []
    assert (tmp_path / "run" / "curves.png").stat().st_size > 500
    with pytest.raises(BadSettings, match="no score 'F1'"):
        train(recipe.replace(best="F1"), tmp_path / "other")


def test_the_evaluation_chooses_the_weights(recipe_values: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([0.9, 0.1])
    monkeypatch.setattr("pathasst.clip.train.ValScores", lambda *_: lambda clip: {"F1": next(scores)})
    recipe = ClipTraining(**{**recipe_values, "tasks": "embedded", "best": "mean", "evaluate_every": 4, "warmup": 0})
    train(recipe, tmp_path / "best")
    early = train(ClipTraining(**{**recipe_values, "warmup": 0}), tmp_path / "early", stop_at=4).model.state_dict()
    best = PathCLIPModel.load(tmp_path / "best").model.state_dict()
    assert all(torch.allclose(best[k], early[k].float(), atol=1e-3) for k in early)


def test_kept_patches_of_all_equal_the_whole_tower(tiny: dict) -> None:
    torch.manual_seed(0)
    visual = build(ClipConfig(tiny)).eval().visual
    pixels = torch.randn(2, 3, 64, 64)
    patches = pixels.view(2, 3, 4, 16, 4, 16).permute(0, 2, 4, 1, 3, 5).reshape(2, 16, -1)
    with torch.inference_mode():
        pooled, tokens = encode_patches(visual, patches, torch.arange(16).expand(2, 16))
        torch.testing.assert_close(pooled @ visual.proj, visual(pixels), atol=1e-5, rtol=0)
    assert tokens.shape == (2, 16, 64)


def test_a_folder_of_another_training_is_refused(whole: tuple[Path, dict], tmp_path: Path) -> None:
    _, values = whole
    train(ClipTraining(**values), tmp_path, stop_at=1)
    with pytest.raises(BadSettings, match="seed: 0 → 5"):
        train(ClipTraining(**{**values, "seed": 5}), tmp_path)


def test_a_start_of_another_activation_or_size_is_refused(recipe_values: dict, tmp_path: Path, tiny: dict) -> None:
    """`start` is what is trained on: the recipe's model must be its own."""
    PathCLIPModel(build(ClipConfig(tiny)), ClipConfig(tiny)).save(tmp_path / "quick")
    model = initial(ClipTraining(**{**recipe_values, "start": str(tmp_path / "quick")}))[0]
    assert next(model.parameters()).requires_grad
    with pytest.raises(BadSettings, match="was trained with quick_gelu"):
        initial(ClipTraining(**{**recipe_values, "model": {**tiny, "quick_gelu": False}, "start": str(tmp_path / "quick")}))
    wider = {**tiny, "vision_cfg": {**tiny["vision_cfg"], "width": 128}}
    with pytest.raises(BadSettings, match="'width': 64"):
        initial(ClipTraining(**{**recipe_values, "model": wider, "start": str(tmp_path / "quick")}))
    config = ClipConfig.of_name("ViT-B-32", "quick_gelu")
    torch.save(build(config).state_dict(), tmp_path / "bare.pt")
    named = {"name": "ViT-B-32", "activation": "quick_gelu"}
    assert initial(ClipTraining(**{**recipe_values, "model": named, "start": str(tmp_path / "bare.pt")}))[1].patch_size == 32


@pytest.mark.parametrize("bad", [{"steps": -1}, {"batch": 1}, {"keep_patches": 0}, {"smallest": 2}])
def test_impossible_values_are_refused(tiny: dict, bad: dict) -> None:
    with pytest.raises(BadSettings):
        ClipTraining(model=tiny, **bad)


def test_recipe_files(tmp_path: Path, tiny: dict) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(json.dumps({"model": tiny, "steps": 5}))
    assert ClipTraining.load(path, ["distill.steps=2"], steps=7).plain()["steps"] == 7
    path.write_text(json.dumps({"model": tiny, "stepps": 5}))
    with pytest.raises(BadSettings, match="stepps; did you mean steps"):
        ClipTraining.load(path)
    path.write_text(json.dumps({"model": tiny, "teach": {}}))
    with pytest.raises(BadSettings, match="use distill"):
        ClipTraining.load(path)


@pytest.mark.parametrize(
    ("name", "size", "tokens"),
    [("ViT-B-32", 224, 49), ("ViT-B-16", 224, 196), ("ViT-L-14", 224, 256), ("ViT-L-14-336", 336, 576)],
)
def test_the_paper_recipe_changes_its_architecture_by_one_line(name: str, size: int, tokens: int) -> None:
    recipe = ClipTraining.load("paper")
    assert recipe.model == {"name": "ViT-B-16", "activation": "quick_gelu"}
    config = recipe.replace(model={**recipe.model, "name": name}).config()
    assert config.activation == "quick_gelu" and config.image_size == size and (size // config.patch_size) ** 2 == tokens


def test_the_sigmoid_loss_learns_is_stored_and_starts_from_a_softmax_model(
    whole: tuple[Path, dict], recipe_values: dict, tmp_path: Path
) -> None:
    out, _ = whole
    lines: list[dict] = []
    values = {**recipe_values, "loss": "sigmoid", "steps": 12, "batch": 16}
    clip = train(ClipTraining(**values), tmp_path / "fresh", log=lines.append)
    assert lines[-1]["loss"] < lines[0]["loss"]
    bias = float(clip.model.logit_bias.detach())
    assert bias != -10.0 and abs(bias + 10.0) < 1.0
    assert float(PathCLIPModel.load(str(tmp_path / "fresh")).model.logit_bias) == pytest.approx(
        bias, abs=0.01
    )  # stored in 16 bits
    model, config = initial(ClipTraining(**{**values, "start": str(out)}))
    assert float(model.logit_bias.detach()) == -10.0 and config.model["init_logit_bias"] == -10.0
    assert torch.equal(model.logit_scale, PathCLIPModel.load(str(out)).model.logit_scale)


def test_shares_say_how_much_of_a_batch_comes_from_each_dataset(pairs: Path, recipe_values: dict) -> None:
    pictures = load_pictures([pairs], ["train"], 64)
    for picture in pictures.images[:3]:
        picture.dataset = 1
    odds = pictures.sampling(0.4, (1.0, 3.0))
    assert odds.sum() == pytest.approx(1.0)
    assert odds[:3].sum() == pytest.approx(0.75)
    with pytest.raises(BadSettings, match="shares: one number"):
        ClipTraining(**{**recipe_values, "shares": (1.0, 2.0)})
