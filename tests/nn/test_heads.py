"""Linear heads on features: fitted by a recipe, kept in half precision, and honest about what they do not know."""

import csv

import cv2
import numpy as np
import pytest

from pathasst.core import weights
from pathasst.core.errors import BadDataset, BadSettings
from pathasst.nn.head_training import HeadPictures, HeadTraining, cross_validate, fitted, least_of, read_pictures
from pathasst.nn.heads import Head, HeadOutput, fit

RECIPE = {"data": [{"path": "cells.csv", "name": "one"}], "classes": ["a", "b"], "views": 1, "folds": 3}


def features(rng, n, shift):
    values = rng.normal(size=(n, 6192)).astype(np.float32)
    values[:, :300] += shift
    return values


def test_a_head_names_classes_tells_strangers_and_survives_its_file(tmp_path):
    rng = np.random.default_rng(0)
    labels = ["a"] * 30 + ["b"] * 30
    known = np.concatenate([features(rng, 30, -1.0), features(rng, 30, 1.0)])
    head = fit(known[None], labels, ["one"] * 60, ["a", "b", "c"])
    head.limit, head.least = float(np.quantile(head.judge(known).distances, 0.95)), (0.5, 0.6, 0.5)
    head.save(tmp_path)
    again = Head.load(tmp_path)
    fresh, strange = features(rng, 20, 1.0), 6 * features(rng, 20, 1.0)
    assert again.least == head.least
    assert (again.judge(fresh).probabilities.argmax(1) == 1).all()
    assert again.judge(fresh).probabilities[:, 2].max() < 1e-3  # a class without a training picture
    assert again.judge(strange).distances.min() > again.judge(known).distances.max()
    assert np.allclose(again.judge(fresh).distances, head.judge(fresh).distances, rtol=0.02)


def test_a_class_is_stated_from_its_own_probability_on_and_never_of_a_stranger():
    head = Head(("a", "b"), {}, least=(0.9, 0.6))
    odds = np.array([[0.8, 0.2], [0.95, 0.05], [0.3, 0.7], [0.05, 0.95]])
    output = HeadOutput(odds, np.array([0.5, 0.5, 0.5, 1.2]))
    assert head.statements(output) == ["", "a", "b", ""]
    assert head.statements(output, far=1.5) == ["", "a", "b", "b"]


def test_what_must_not_be_hidden_is_not_stated_as_another_class():
    """Of 100 pictures each, a fifth of `b` look like `a`, by probabilities below 0.8: `a` is stated above these alone."""
    rng = np.random.default_rng(0)
    best = np.concatenate([rng.uniform(0.6, 1, 100), rng.uniform(0.6, 1, 80), rng.uniform(0.6, 0.8, 20)])
    truth = np.repeat([0, 1], 100)
    called = np.concatenate([np.zeros(100, int), np.ones(80, int), np.zeros(20, int)])
    odds = np.where(np.arange(2) == called[:, None], best[:, None], 1 - best[:, None])
    output, sources = HeadOutput(odds, np.zeros(200)), np.array(["one"] * 200)
    settings = HeadTraining.of({**RECIPE, "right": 0.5})
    assert least_of(settings, output, truth, sources) == (0.3, 0.3)
    careful = least_of(settings.replace(missed={"a": 0.02}), output, truth, sources)
    assert careful[1] == 0.3 and 0.75 < careful[0] < 0.81
    assert least_of(settings.replace(right=0.999), output, truth, sources)[1] > 0.75


def test_folds_keep_groups_apart_and_measure_what_is_stated():
    rng = np.random.default_rng(0)
    known = np.concatenate([features(rng, 30, -1.0), features(rng, 30, 1.0)])
    groups = np.array([f"one/{n // 2}" for n in range(60)])
    pictures = HeadPictures(known[None].astype(np.float16), np.repeat(["a", "b"], 30), groups, np.array(["one"] * 60))
    settings = HeadTraining.of(RECIPE)
    checked = cross_validate(settings, pictures)
    scores = checked.scores()["all"]
    assert scores["groups"] == 30 and scores["macro F1"].value > 0.95 and scores["right of stated"] > 0.95
    assert sum(scores["stated as"]["a"].values()) == 30
    assert abs(scores["unlike"] - 0.05) < 0.02
    assert fitted(settings, pictures).classes == ("a", "b")


@pytest.mark.skipif(not weights.present("efficientnet-lite0"), reason="fetch the weights: pathasst models pull")
def test_the_command_fits_a_head_that_loads_and_says_what_it_measured(tmp_path):
    from typer.testing import CliRunner

    from pathasst.cli.train import app

    rng = np.random.default_rng(0)
    with (tmp_path / "cells.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "label"])
        for n in range(12):
            picture = rng.integers(180, 230, (48, 48, 3)).astype(np.uint8)
            cv2.circle(picture, (24, 24), 9 + 6 * (n % 2), (120, 40, 90) if n % 2 else (40, 90, 160), -1)
            cv2.imwrite(str(tmp_path / f"{n}.png"), picture)
            rows.writerow([f"{n}.png", "ab"[n % 2]])
    (tmp_path / "r.yaml").write_text("data: [{path: cells.csv, name: one}]\nclasses: [a, b]\nviews: 1\nfolds: 3\n")
    run = CliRunner().invoke(
        app, ["head", str(tmp_path / "r.yaml"), "--data", str(tmp_path), "--out", str(tmp_path / "out"), "--set", "seed=1"]
    )
    assert run.exit_code == 0, run.output
    assert "all: macro F1 1.0" in run.output
    head = Head.load(tmp_path / "out")
    assert head([cv2.imread(str(tmp_path / "3.png"))[..., ::-1]]).probabilities.argmax() == 1


def test_a_recipe_that_cannot_be_fitted_says_why(tmp_path):
    with pytest.raises(BadSettings, match="no classes"):
        HeadTraining.of({**RECIPE, "missed": {"c": 0.1}})
    (tmp_path / "cells.csv").write_text("path,label\n1.png,a\n2.png,c\n")
    for name in ("1.png", "2.png"):
        cv2.imwrite(str(tmp_path / name), np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(BadDataset, match="labelled b"):
        read_pictures(HeadTraining.of(RECIPE).rooted(tmp_path))


@pytest.mark.parametrize("name", ["wbc", "lbc_fields", "lbc_cells"])
def test_the_shipped_heads_are_made_by_their_recipes(name):
    """The recipe's classes are those of the weights that its tool loads."""
    from pathasst.core.recipes import recipes_dir

    settings = HeadTraining.load(recipes_dir() / "embedded" / f"{name}.yaml")
    assert Head.load(f"{name.replace('_', '-')}-embedded").classes == settings.classes
