from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from pathasst.clip.scores import class_scores, recall_at


@pytest.mark.parametrize("seed", range(4))
def test_f1_and_accuracy_equal_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, said = rng.integers(0, 4, 200), rng.integers(0, 5, 200)
    scores = class_scores(truth, said, 5)
    assert scores.macro_f1.value == pytest.approx(f1_score(truth, said, labels=range(4), average="macro", zero_division=0))
    assert scores.weighted_f1.value == pytest.approx(f1_score(truth, said, average="weighted", zero_division=0))
    assert scores.accuracy.value == pytest.approx(accuracy_score(truth, said))
    assert (scores.confusion == confusion_matrix(truth, said, labels=range(5))).all()
    assert scores.macro_f1.low <= scores.macro_f1.value <= scores.macro_f1.high


def test_copies_of_few_originals_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    right = np.repeat(rng.random(20) < 0.7, 10)
    truth = np.zeros(200, int)
    said = np.where(right, 0, 1)
    alone = class_scores(truth, said, 2).accuracy
    clustered = class_scores(truth, said, 2, np.repeat(np.arange(20), 10).astype(str).tolist()).accuracy
    assert clustered.value == alone.value
    assert clustered.high - clustered.low > 2 * (alone.high - alone.low)


def test_recall_counts_any_right_answer_and_ties_against_the_query() -> None:
    similarity = np.array([[0.9, 0.8, 0.1], [0.5, 0.5, 0.5], [0.1, 0.2, 0.3]])
    hits = recall_at(similarity, [[1], [2], [0, 2]], [1, 2, 3])
    assert hits.tolist() == [[False, True, True], [False, False, True], [True, True, True]]


def test_recall_equals_a_plain_ranking() -> None:
    """Beside CLIP_benchmark's definition: any positive among the k best."""
    rng = np.random.default_rng(1)
    similarity = rng.normal(size=(30, 50))
    positives = [rng.choice(50, 3, replace=False).tolist() for _ in range(30)]
    best = np.argsort(-similarity, axis=1)
    plain = [[bool(set(best[q, :k]) & set(positives[q])) for k in (1, 5, 10)] for q in range(30)]
    assert recall_at(similarity, positives, [1, 5, 10]).tolist() == plain
