"""Scores against scikit-learn's, and splits that never cut through a group."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from pathasst.nn.classifier import ClassifierItem, evaluate, split_items
from pathasst.nn.classifier.scores import calibration_error


def test_f1_and_confusion_are_scikit_learns():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 4, 200)
    p = rng.dirichlet(np.ones(4), 200)
    p[np.arange(200), labels] += 0.4
    p /= p.sum(1, keepdims=True)
    scores = evaluate(p, labels, "abcd", rng.integers(0, 30, 200))
    found = p.argmax(1)
    assert scores.macro_f1.value == pytest.approx(f1_score(labels, found, average="macro"))
    assert scores.weighted_f1.value == pytest.approx(f1_score(labels, found, average="weighted"))
    assert scores.confusion.sum() == 200 and scores.confusion[1, 2] == ((labels == 1) & (found == 2)).sum()
    assert scores.macro_f1.low < scores.macro_f1.value < scores.macro_f1.high and scores.groups == 30


def test_a_class_that_does_not_occur_is_left_out_of_the_mean():
    p = np.eye(3)[[0, 0, 1, 1]]
    assert evaluate(p, [0, 0, 1, 1], "abc").macro_f1.value == 1


def test_copies_of_one_picture_widen_the_interval():
    labels = np.tile([0, 1], 20)
    p = np.where((labels == 1)[:, None], [[0.2, 0.8]], [[0.8, 0.2]])
    p[:8] = p[:8, ::-1]
    alone = evaluate(p, labels, "ab").accuracy
    grouped = evaluate(p, labels, "ab", np.arange(40) // 8).accuracy
    assert grouped.high - grouped.low > 1.3 * (alone.high - alone.low)


@pytest.mark.parametrize(("sure", "right", "gap"), [(0.9, 0.9, 0.0), (0.9, 0.5, 0.4), (0.6, 1.0, 0.4)])
def test_the_calibration_error_is_the_gap(sure, right, gap):
    p = np.tile([[sure, 1 - sure]], (100, 1))
    labels = np.where(np.arange(100) < 100 * right, 0, 1)
    assert calibration_error(p, labels) == pytest.approx(gap, abs=1e-6)


def some(split: str = "") -> list[ClassifierItem]:
    image = np.zeros((4, 4, 3), np.uint8)
    return [ClassifierItem(image, "ab"[g % 2], f"g{g}", split) for g in range(40) for _ in range(1 + g % 3)]


def test_no_group_lies_on_two_sides_and_shares_are_kept():
    items = split_items(some(), 0.2, 0.25, seed=4)
    sides: dict[str, set[str]] = {}
    for item in items:
        sides.setdefault(item.group, set()).add(item.split)
    assert all(len(s) == 1 for s in sides.values())
    counts = {name: sum(s == {name} for s in sides.values()) for name in ("train", "val", "test")}
    assert 8 <= counts["test"] <= 12 and 5 <= counts["val"] <= 11 and counts["train"] >= 18
    assert {i.label for i in items if i.split == "test"} == {"a", "b"}


def test_a_given_split_stays_and_the_missing_validation_is_drawn_from_training():
    given = [ClassifierItem(i.image, i.label, i.group, "test" if int(i.group[1:]) < 10 else "train") for i in some()]
    items = split_items(given, 0.2, 0.5)
    assert [i.split == "test" for i in items] == [i.split == "test" for i in given]
    assert 0 < sum(i.split == "val" for i in items) < 0.4 * len(items)


def test_the_temperature_makes_an_overconfident_classifier_honest():
    import torch

    from pathasst.nn.classifier.training import temperature

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    right = rng.random(200) < 0.8

    class Sure:
        classes = ("a", "b")

        def logits(self, pictures):
            called = np.where(right, labels, 1 - labels)
            return np.where(called[:, None] == [0, 1], 5.0, -5.0).astype(np.float32)

    image = np.zeros((4, 4, 3), np.uint8)
    items = [ClassifierItem(image, "ab"[label], str(n)) for n, label in enumerate(labels)]
    found = temperature(Sure(), items)
    assert torch.tensor([5.0, -5.0]).div(found).softmax(0)[0].item() == pytest.approx(right.mean(), abs=0.02)
    assert temperature(Sure(), items[:10]) == 1
