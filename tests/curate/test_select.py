from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from curate_samples import png, texture
from safetensors.torch import save_file

from pathasst.curate.select import SelectConfig, Selector, build, build_released, probability
from pathasst.curate.select_train import SelectRecipe, TrainSettings, read_samples, split_of, train
from pathasst.errors import BadInput, BadSettings, MissingWeights
from pathasst.recipes import load_recipe

TINY = SelectConfig(dims=(8, 8, 16, 16), depths=(1, 1, 1, 1), size=32)


def test_our_layout_loads_and_scores_are_probabilities(tmp_path):
    model = build(TINY)
    save_file({k: v.half().contiguous() for k, v in model.state_dict().items()}, tmp_path / "model.safetensors")
    TINY.save(tmp_path / "config.json")
    selector = Selector.load(tmp_path)
    scores = selector.score([texture(1), texture(2, 64, 300)])
    assert scores.shape == (2,)
    assert ((scores > 0) & (scores < 1)).all()
    assert selector.config == TINY
    assert selector.score([]).shape == (0,)


def test_the_released_checkpoint_loads_from_a_file_and_class_1_is_pathology(tmp_path):
    torch.manual_seed(0)
    released = build_released()
    torch.save({"model": released.state_dict(), "epoch": 3}, tmp_path / "model.pt")
    selector = Selector.load(tmp_path / "model.pt")
    picture = texture(3, 300, 200)
    with torch.inference_mode():
        from pathasst.curate.select import to_tensor

        wanted = released.eval()(to_tensor([picture], 224)).softmax(1)[0, 1]
    assert selector.score([picture])[0] == pytest.approx(float(wanted), abs=1e-5)
    assert Selector.load(tmp_path).config.size == 224


def test_a_checkpoint_that_is_no_plain_weights_is_refused(tmp_path):
    torch.save({"model": build_released}, tmp_path / "code.pt")  # a function: would need unpickling
    with pytest.raises(BadInput, match="plain weights"):
        Selector.load(tmp_path / "code.pt")
    torch.save({"model": {"weight": torch.zeros(1)}}, tmp_path / "other.pt")
    with pytest.raises(BadInput, match="not the released"):
        Selector.load(tmp_path / "other.pt")
    with pytest.raises((MissingWeights, BadSettings)):
        Selector.load("no-such-model")


def test_calibration_moves_scores_but_keeps_their_order():
    logits = torch.tensor([[0.0, -2.0], [0.0, 0.5], [0.0, 3.0]])
    plain = probability(logits, TINY)
    soft = probability(logits, SelectConfig(temperature=2.0, bias=0.3))
    assert plain[1] == pytest.approx(0.6225, abs=1e-4)
    assert soft.tolist() == sorted(soft.tolist())
    assert soft[2] < plain[2]


@pytest.mark.parametrize("change", [{"dims": [8, 8]}, {"temperature": 0}, {"threshold": 1.5}, {"unknown": 1}])
def test_a_wrong_configuration_says_so(tmp_path, change):
    (tmp_path / "config.json").write_text(json.dumps(change))
    with pytest.raises(BadSettings):
        SelectConfig.load(tmp_path / "config.json")


@pytest.fixture
def labelled(tmp_path):
    """Pink dotted pictures against grey stripes, in groups of two."""
    for n in range(24):
        for kind in ("pathology", "other"):
            stripes = np.full((48, 48, 3), 230, np.uint8)
            stripes[:: 3 + n % 3] = 40
            picture = texture(n // 2, 48, 48) if kind == "pathology" else stripes
            path = tmp_path / kind / f"{n}.png"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(png(picture))
    rows = [f"{k}/{n}.png,{k},{k}{n // 2}" for n in range(24) for k in ("pathology", "other")]
    (tmp_path / "labels.csv").write_text("image,label,group\n" + "\n".join(rows))
    return tmp_path


def test_training_learns_a_simple_difference_and_writes_what_loads(labelled, tmp_path):
    settings = TrainSettings(steps=30, batch=16, lr=3e-3, warmup=5, ema=0.8, max_side=48, val=0.3, test=0.3)
    samples = read_samples(labelled / "labels.csv", settings)
    scores = train(samples, tmp_path / "out", TINY, settings)
    assert scores["f1"] > 0.8
    assert scores["f1_interval"][0] <= scores["f1"] <= scores["f1_interval"][1]
    selector = Selector.load(tmp_path / "out")
    assert selector.score([texture(99, 48, 48)])[0] > selector.config.threshold


def test_groups_never_cross_the_split_and_folders_work_as_csv(labelled):
    settings = TrainSettings(val=0.3, test=0.3)
    sides: dict[str, set[str]] = {}
    for s in read_samples(labelled / "labels.csv", settings):
        sides.setdefault(s.group, set()).add(s.split)
    assert all(len(x) == 1 for x in sides.values())
    assert {s.label for s in read_samples(labelled, settings)} == {0, 1}
    assert split_of("a", settings) == split_of("a", settings)


def test_unknown_labels_and_a_missing_class_say_so(tmp_path):
    (tmp_path / "a.csv").write_text("image,label\nx.png,maybe\n")
    with pytest.raises(BadSettings, match="maybe"):
        read_samples(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("image,label\nx.png,other\n")
    with pytest.raises(BadSettings, match="both classes"):
        read_samples(tmp_path / "a.csv")


@pytest.mark.parametrize("recipe", ["embedded", "paper"])
def test_recipes_load(recipe):
    values = load_recipe("select", recipe, SelectRecipe)
    assert SelectConfig(**values.model).size in (112, 224)
    assert values.training.steps > 0
