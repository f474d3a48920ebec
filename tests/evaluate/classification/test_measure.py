"""The table of a set: prompts by three rules, probes, robustness; each score equals scikit-learn's on the same predictions."""

import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score
from sklearn.neighbors import KNeighborsClassifier

from pathasst.core.errors import BadDataset, BadSettings
from pathasst.evaluate.classification import probes
from pathasst.evaluate.classification.changes import CHANGES
from pathasst.evaluate.classification.measure import COLUMNS, ClassificationSettings, evaluate
from pathasst.evaluate.classification.metrics import METRICS, calibration_error, class_scores, macro_f1

sys.path.insert(0, str(Path(__file__).parent))
from conftest import ColourClip, picture, table

RED, BLUE = (190, 60, 60), (60, 60, 190)


@pytest.mark.parametrize("classes", [2, 5])
def test_scores_equal_scikit_learns(classes):
    rng = np.random.default_rng(classes)
    truth = rng.integers(0, classes, 200)
    predicted = np.where(rng.random(200) < 0.6, truth, rng.integers(0, classes, 200))
    scores = class_scores(truth, predicted, classes, [str(n // 4) for n in range(200)])
    theirs = [
        f1_score(truth, predicted, average="macro"),
        f1_score(truth, predicted, average="weighted"),
        balanced_accuracy_score(truth, predicted),
        (truth == predicted).mean(),
    ]
    assert [scores[m].value for m in METRICS] == pytest.approx(theirs)
    assert all(s.low <= s.value <= s.high for s in scores.values())
    assert macro_f1(truth, predicted, classes) == pytest.approx(theirs[0])


def test_classes_without_a_picture_do_not_count():
    truth, predicted = np.array([0, 0, 1]), np.array([0, 2, 1])
    assert class_scores(truth, predicted, 3, list("abc"))["macro F1"].value == pytest.approx((2 / 3 + 1) / 2)


def test_calibration_error_is_the_gap_between_confidence_and_accuracy():
    sure = np.tile([0.9, 0.1], (100, 1))
    truth = np.array([0] * 60 + [1] * 40)
    assert calibration_error(sure, truth, [str(n) for n in range(100)]).value == pytest.approx(0.3)
    assert calibration_error(sure, np.array([0] * 90 + [1] * 10), [str(n) for n in range(100)]).value == pytest.approx(0)


def blobs(seed, n=90, d=8, classes=3, spread=1.0):
    """Three clouds, the same for every seed, other points."""
    centres = np.random.default_rng(7).normal(0, 1, (classes, d))
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    vectors = centres[labels] + rng.normal(0, spread, (n, d))
    return probes.Features((vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), labels)


def test_neighbours_equal_scikit_learns_of_the_same_k():
    train, val, test = blobs(0), blobs(1), blobs(2)
    probe = probes.nearest_neighbours(train, val, test, 3)
    k = int(probe.setting.removeprefix("k = "))
    theirs = KNeighborsClassifier(k, metric="cosine", algorithm="brute").fit(train.vectors, train.labels)
    assert np.allclose(probe.probabilities, theirs.predict_proba(test.vectors))


def test_probes_learn_what_the_features_hold():
    train, val, test = (blobs(n, spread=0.3) for n in range(3))
    for probe in (
        probes.linear_probe(train, val, test, 3),
        probes.simple_shot(train, test, 3),
        probes.nearest_neighbours(train, val, test, 3),
    ):
        assert (probe.probabilities.argmax(1) == test.labels).mean() > 0.9
        assert np.allclose(probe.probabilities.sum(1), 1)
    shots = probes.few_shots(train, test, 3, draws=20)
    assert list(shots) == [1, 2, 4, 8, 16] and shots[16].value > shots[1].value and shots[16].low <= shots[16].value


def test_a_class_that_train_lacks_is_never_chosen():
    train = probes.Features(blobs(0).vectors[blobs(0).labels < 2], blobs(0).labels[blobs(0).labels < 2])
    for probe in (probes.linear_probe(train, blobs(1), blobs(2), 3), probes.simple_shot(train, blobs(2), 3)):
        assert 2 not in probe.probabilities.argmax(1)


@pytest.mark.parametrize("name", CHANGES)
def test_changes_are_small_enough_to_be_seen_through_and_the_same_each_time(name):
    image = np.random.default_rng(0).integers(60, 220, (224, 230, 3), np.uint8)
    changed = CHANGES[name](image)
    assert changed.shape == image.shape and changed.dtype == np.uint8 and not np.array_equal(changed, image)
    assert np.array_equal(changed, CHANGES[name](image))


@pytest.fixture
def colours(tmp_path):
    """Two classes that differ in colour, ten originals of three copies each, and one broken file."""
    rows = []
    for n in range(60):
        label = ("rose", "azure")[n % 2]
        picture(tmp_path / f"set/images/{n}.png", RED if label == "rose" else BLUE, seed=n)
        rows.append({"image": f"images/{n}.png", "label": label, "original": f"{label}{n // 6}"})
    (tmp_path / "set/images/0.png").write_bytes(b"half a download")
    table(tmp_path / "set/labels.csv", rows)
    return tmp_path / "set"


def test_one_table_of_a_folder(colours):
    clip = ColourClip({"rose": (1, -1, -1), "azure": (-1, -1, 1)})
    table_, scores = evaluate(
        clip, "colours", None, folder=colours, options=ClassificationSettings(robust=True, draws=5, random_prompts=4)
    )
    rows = {row[1]: dict(zip(COLUMNS, row, strict=True)) for row in table_.rows}
    assert list(rows)[:3] == ["zero-shot, single prompt", "zero-shot, ensemble", "zero-shot, 4 random prompts"]
    assert {"linear probe", "kNN", "SimpleShot, all of train", "SimpleShot, 1 shots × 5"} < set(rows)
    assert {f"zero-shot, ensemble; {c}" for c in CHANGES} < set(rows)
    assert rows["zero-shot, ensemble"]["macro F1"].value == rows["linear probe"]["accuracy"].value == 1.0
    assert rows["kNN"]["clusters"] < rows["kNN"]["n"]
    assert rows["zero-shot, 4 random prompts"]["accuracy"] is None
    assert any("1 pictures of" in note for note in table_.notes) and any("no official split" in note for note in table_.notes)
    assert len({s.data for s in scores}) == 1 and {s.metric for s in scores} == {*METRICS, "ECE"}
    parts = {i["part"] for i in table_.items}
    assert "set, zero-shot, single prompt" in parts and all({"id", "cluster", "score", "wanted"} <= set(i) for i in table_.items)


def test_a_limit_keeps_clusters_whole_and_a_set_of_tests_is_not_probed(tmp_path):
    for n in range(8):
        picture(tmp_path / f"set/test/{('rose', 'azure')[n % 2]}/{n}.png", RED if n % 2 == 0 else BLUE, seed=n)
    clip = ColourClip({"rose": (1, -1, -1), "azure": (-1, -1, 1)})
    table_, _ = evaluate(clip, "colours", None, folder=tmp_path / "set", options=ClassificationSettings(limit=5))
    assert {row[2] for row in table_.rows} == {5} and any("nothing is probed" in note for note in table_.notes)
    assert clip.encoded == 5


def test_nothing_found_names_every_set(tmp_path):
    with pytest.raises(BadDataset, match=r"(?s)no set of labelled pictures.*PatchCamelyon: not in.*PanNuke"):
        evaluate(ColourClip({}), "colours", tmp_path)


def test_an_unknown_set_is_found_out_before_the_others_are_measured(colours):
    with pytest.raises(BadSettings, match="has no classes of 'imagenet'"):
        evaluate(None, "a", None, ("folder", "imagenet"), folder=colours)
