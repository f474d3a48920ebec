from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pathasst.clip import baselines, leave_one_out, lit
from pathasst.clip.build import ClipConfig, build
from pathasst.clip.data import TrainingImage, load_pictures
from pathasst.clip.lit import compute_lit_features
from pathasst.clip.model import PathCLIPModel
from pathasst.clip.settings import ClipTraining
from pathasst.clip.train import train
from pathasst.core import weights
from pathasst.core.errors import BadSettings, MissingWeights
from pathasst.core.records import Pair
from pathasst.dataset import Unit, read, run_stage
from pathasst.nn import multiscale
from pathasst.nn.pretrained import MEAN, STD


def _here() -> bool:
    try:
        return weights.path("efficientnet-lite0").is_dir()
    except MissingWeights:
        return False


needs_lite0 = pytest.mark.skipif(not _here(), reason="weights efficientnet-lite0 are not on this machine")
VISION = {"image_size": 64, "timm_model_name": "tf_efficientnet_lite0", "timm_pool": "", "timm_proj": "linear"}


class Asked(torch.nn.Module):
    """A trunk that says whether it was run in bfloat16."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.full((len(pixels), 1), float(torch.is_autocast_enabled("cpu")))


@pytest.mark.parametrize("fast", [True, False])
def test_a_tower_looks_in_bfloat16_only_where_that_is_fast(fast: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Emulated, it takes five times as long as float32."""
    monkeypatch.setattr(lit, "has_fast_bfloat16", lambda device="cpu": fast)
    config = ClipConfig({"vision_cfg": {"image_size": 32}}, MEAN, STD)
    pixels = np.zeros((32, 32, 3), np.uint8)
    assert baselines.trunk_features(Asked(), config, [pixels]).item() == fast
    images = [TrainingImage(pixels, "0" * 32, "", "", "")]
    assert compute_lit_features(Asked(), config, images, 1, 0.7, 0.1, 0, tmp_path / "features").item() == fast


@pytest.fixture(scope="module")
def lite(tiny: dict) -> dict:
    return {**tiny, "vision_cfg": VISION}


@pytest.fixture(scope="module", params=[VISION["timm_model_name"], multiscale.NAME])
def either(request: pytest.FixtureRequest, tiny: dict) -> dict:
    """With the last layer alone, and with every depth."""
    return {**tiny, "vision_cfg": {**VISION, "timm_model_name": request.param}}


@needs_lite0
def test_a_locked_tower_learns_from_features_and_keeps_its_weights(recipe_values: dict, either: dict, tmp_path: Path) -> None:
    from pathasst.nn.pretrained import efficientnet_lite0

    values = {
        "model": either,
        "tower": "efficientnet-lite0",
        "unlocked": 0,
        "views": 2,
        "keep_patches": 1.0,
        "steps": 60,
        "warmup": 0.05,
    }
    recipe = ClipTraining(**{**recipe_values, **values})
    train(recipe, tmp_path, stop_at=30)
    clip = train(recipe, tmp_path)
    trunk = efficientnet_lite0().state_dict()
    state = clip.model.visual.trunk.state_dict()
    assert all(torch.equal(trunk[k], state[k]) for k in trunk)
    images = [s for s in load_pictures(recipe.data, ["test"], 64).images if s.label]
    said = clip.classify([s.pixels for s in images], ["An image of bands", "An image of dots"]).argmax(axis=1)
    assert np.mean(said == [s.label == "textures/dots" for s in images]) >= 0.8
    again = PathCLIPModel.load(tmp_path)
    assert tuple(again.config.mean) == MEAN
    pixels = [s.pixels for s in images]
    np.testing.assert_allclose(again.encode_image(pixels), clip.encode_image(pixels), atol=5e-3)  # stored as fp16
    assert not any(k.startswith("visual.trunk") for k in load_file(tmp_path / "model.safetensors"))
    train(recipe, tmp_path / "whole")
    one, two = (load_file(f / "model.safetensors") for f in (tmp_path, tmp_path / "whole"))
    assert all(torch.equal(one[k], two[k]) for k in one)  # stopped at 30 and resumed


@needs_lite0
def test_the_last_layers_alone_are_trained(recipe_values: dict, lite: dict, tmp_path: Path) -> None:
    from pathasst.nn.pretrained import efficientnet_lite0

    values = {"model": lite, "tower": "efficientnet-lite0", "unlocked": 2, "steps": 2, "batch": 4}
    trained = train(ClipTraining(**{**recipe_values, **values}), tmp_path).model.visual.trunk.state_dict()
    before = efficientnet_lite0().state_dict()
    changed = {k for k in before if not torch.equal(before[k], trained[k])}
    assert changed and all(k.startswith(("conv_head", "bn2", "blocks.6", "blocks.5.3")) for k in changed)
    assert not any("running" in k for k in changed)
    assert load_file(tmp_path / "model.safetensors")


def test_features_are_kept_and_completed(either: dict, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    config = ClipConfig(either, MEAN, STD)
    trunk = build(config).eval().visual.trunk
    images = load_pictures([pairs], ["train"], 64).images
    look = (2, 0.6, 0.2, 0)
    some = compute_lit_features(trunk, config, images[:5], *look, tmp_path / "f")
    whole = compute_lit_features(trunk, config, images, *look, tmp_path / "f")
    assert whole.shape == (18, 2, trunk.num_features) and np.array_equal(whole[:5], some)
    assert np.array_equal(compute_lit_features(None, config, images, *look, tmp_path / "f"), whole)  # nothing is computed again
    monkeypatch.setattr(lit, "BATCH", 4)
    monkeypatch.setattr(lit, "KEEP", 1)
    calls = iter(range(4))  # of five batches with two views each

    def cut_off(*_: object) -> None:
        next(calls)

    hook = trunk.register_forward_pre_hook(cut_off)
    with pytest.raises(StopIteration):
        compute_lit_features(trunk, config, images, *look, tmp_path / "killed")
    hook.remove()
    assert len(load_file(tmp_path / "killed")) == 8  # two batches are kept
    with pytest.raises(AttributeError):
        compute_lit_features(None, config, images, 3, *look[1:], tmp_path / "f")  # other settings: everything is


@needs_lite0
def test_leaving_a_set_out(recipe_values: dict, either: dict, pairs: Path, tmp_path: Path) -> None:
    """Two sets of the same textures: trained on the one, the other is told apart by words alone."""
    rows = [p for p in read(pairs, Pair) if p.label]
    moved = [replace(p, source=replace(p.source, article_id="b" if int(p.group[-1]) % 2 else "a"), split="train") for p in rows]
    two = tmp_path / "two"
    run_stage(two, stage="labels", record=Pair, units=[Unit("only")], work=lambda _: moved, progress=False)
    classes = {k: {"prompt": f"An image of {k}", "names": [k], "labels": [f"textures/{k}"]} for k in ("bands", "dots")}
    (tmp_path / "tasks.yaml").write_text(json.dumps({"textures": {"classes": classes, "templates": ["An image of {}"]}}))
    base = {
        **recipe_values,
        "model": either,
        "tower": "efficientnet-lite0",
        "unlocked": 0,
        "views": 2,
        "steps": 60,
        "warmup": 0.05,
    }
    (tmp_path / "base.yaml").write_text(json.dumps(base))
    sets = {"b": {"sources": ["b"], "tasks": ["textures"]}}
    (tmp_path / "plan.yaml").write_text(json.dumps({"base": "base.yaml", "tasks": str(tmp_path / "tasks.yaml"), "sets": sets}))
    recipe = leave_one_out.LeaveOutRecipe.load(tmp_path / "plan.yaml")
    (tmp_path / "other").mkdir()
    plan = {"base": str(tmp_path / "base.yaml"), "tasks": recipe.tasks, "sets": sets}
    (tmp_path / "other" / "plan.yaml").write_text(json.dumps(plan))  # a whole path instead of a file beside it
    assert leave_one_out.LeaveOutRecipe.load(tmp_path / "other" / "plan.yaml") == recipe
    (left,) = leave_one_out.leave_one_out(recipe, [two], tmp_path / "out")
    assert left.n == len({p.md5 for p in moved if p.source.article_id == "b"}) and left.zero_shot.value > 0.9
    assert left.untrained.value < left.zero_shot.value and 0.3 < left.chance < 0.7
    assert "| b | textures |" in leave_one_out.markdown([left]) and (tmp_path / "out" / "leave_one_out.json").is_file()
    with pytest.raises(BadSettings, match="no set or task is called x"):
        leave_one_out.leave_one_out(recipe, [two], tmp_path / "out", only=["x"])


def test_without_a_source_neither_its_pictures_nor_its_captions_are_drawn(pairs: Path) -> None:
    whole = load_pictures([pairs], ["train", "test"], 64)
    for n, images in enumerate(whole.images):
        images.source = "b" if n % 3 == 0 else "a"
        images.label = f"{images.source}/{images.label}" if images.label else ""
    whole.by_label = {s.label: s.captions for s in whole.images if s.label}
    some, rows = whole.without(["b"])
    assert [whole.images[r] for r in rows] == some.images and {s.source for s in some.images} == {"a"}
    assert set(some.by_label) == {s.label for s in some.images if s.label}
    assert len(some.concepts) == len(some.texts) == len(whole.texts)


def test_a_set_needs_sources_and_tasks() -> None:
    with pytest.raises(BadSettings, match=r"sets\.a\.tasks is missing"):
        leave_one_out.LeaveOutRecipe(sets={"a": {"sources": ["b"]}})


@pytest.mark.parametrize("bad", [{"tower": "efficientnet-lite0"}, {"unlocked": 2}])
def test_only_a_timm_tower_is_locked(tiny: dict, bad: dict) -> None:
    with pytest.raises(BadSettings, match="timm"):
        ClipTraining(model=tiny, **bad)


def test_only_a_vit_is_a_student(lite: dict) -> None:
    with pytest.raises(BadSettings, match="only a ViT"):
        ClipTraining(model=lite, distill={"steps": 1})
