from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pathasst.clip.augment import cut, turn
from pathasst.clip.data import load_pictures
from pathasst.clip.distill import FILE, DistillSettings, TeacherFeatures, compute_teacher_features
from pathasst.clip.settings import ClipTraining
from pathasst.clip.train import train
from pathasst.core import weights
from pathasst.core.errors import BadSettings, MissingWeights


def _here() -> bool:
    try:
        return weights.path("efficientnet-lite0").is_dir()
    except MissingWeights:
        return False


pytestmark = pytest.mark.skipif(not _here(), reason="weights efficientnet-lite0 are not on this machine")
TEACH = {"steps": 6, "weight": 0.5, "views": 2, "dims": 16}


@pytest.fixture(scope="module")
def student(tiny: dict) -> dict:
    """The tiny CLIP with patches of 32 px: 2 × 2 tokens, as the teacher's map at 64 px."""
    return {**tiny, "vision_cfg": {**tiny["vision_cfg"], "patch_size": 32}}


@pytest.fixture(scope="module")
def teacher(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> TeacherFeatures:
    images = load_pictures([pairs], ["train"], 64).images
    return compute_teacher_features(
        images, DistillSettings(views=2, dims=16), 64, 2, 0, tmp_path_factory.mktemp("teacher") / FILE
    )


def test_targets_are_of_variance_one_and_turn_with_the_picture(teacher: TeacherFeatures) -> None:
    assert teacher.patches.shape == (36, 2, 2, 16) and teacher.pooled.shape == (36, 16)
    assert teacher.patches.astype(float).var(axis=(0, 1, 2)).mean() == pytest.approx(1, abs=0.05)
    every = np.arange(4)[None]
    straight, _ = teacher.targets([(3, 1, 0)], every)
    turned, _ = teacher.targets([(3, 1, 5)], every)
    assert np.array_equal(turned[0].reshape(2, 2, 16), turn(straight[0].reshape(2, 2, 16), 5))
    some, _ = teacher.targets([(3, 1, 0)], np.array([[2]]))
    assert np.array_equal(some[0, 0], straight[0, 2])


def test_the_features_are_those_of_the_released_network(teacher: TeacherFeatures, pairs: Path) -> None:
    """Distances between pictures in the targets follow those of Lite0's pooled features, computed here the plain way."""
    from pathasst.nn.pretrained import efficientnet_lite0

    images = load_pictures([pairs], ["train"], 64).images
    pixels = np.stack([cut(s.pixels, teacher.box(n, 0), 64) for n, s in enumerate(images)])
    with torch.inference_mode():
        seen = efficientnet_lite0().eval()(torch.from_numpy(pixels / 127.5 - 1).float().permute(0, 3, 1, 2)).numpy()
    ours = teacher.pooled.astype(np.float32)[::2]
    one, two = (np.linalg.norm(x[:, None] - x[None], axis=-1)[np.triu_indices(len(x), 1)] for x in (seen, ours))
    assert np.corrcoef(one, two)[0, 1] > 0.8  # half whitened


def test_the_student_learns_what_the_teacher_says_and_resumes_bit_for_bit(
    recipe_values: dict, student: dict, tmp_path: Path
) -> None:
    teach = {**TEACH, "steps": 60, "smallest": 1.0}
    values = {"model": student, "steps": 64, "batch": 16, "keep_patches": 1.0, "stain": 0.0, "distill": teach}
    recipe = ClipTraining(**{**recipe_values, **values})
    lines: list[dict] = []
    train(recipe, tmp_path / "one", log=lines.append)
    distill = [line["distill"] for line in lines]
    assert distill[5] < 0.7 and "contrast" not in lines[5] and "contrast" in lines[-1]
    train(recipe, tmp_path / "two", stop_at=61)
    train(recipe, tmp_path / "two")
    one, two = (load_file(tmp_path / f / "model.safetensors") for f in ("one", "two"))
    assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)
    assert not any("heads" in k for k in one)


def test_further_pictures_are_taught_and_test_pictures_are_not(
    recipe_values: dict, student: dict, tmp_path: Path, pairs: Path
) -> None:
    recipe = ClipTraining(
        **{**recipe_values, "model": student, "steps": 2, "distill": {**TEACH, "steps": 1, "data": [str(pairs)]}}
    )
    train(recipe, tmp_path)
    assert load_file(tmp_path / FILE)["boxes"].shape == (18 + 18, 2, 3)  # 28 pictures, 10 of them in the test split


@pytest.mark.parametrize("bad", [{"views": 0}, {"dims": 0}, {"steps": -1}, {"weight": -1}, {"vieews": 2}])
def test_impossible_values_are_refused(tiny: dict, bad: dict) -> None:
    with pytest.raises(BadSettings):
        ClipTraining(model=tiny, teach=bad)


def test_a_student_finer_than_its_teacher_is_refused(pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="patch of 32"):
        compute_teacher_features(load_pictures([pairs], ["train"], 64).images, DistillSettings(), 64, 4, 0, tmp_path / FILE)
