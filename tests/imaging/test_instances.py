"""Scores of objects agree with a plain, slow count over sets of px, and with what the papers say of simple cases."""

import math

import numpy as np
import pytest

from pathasst.core.errors import BadInput
from pathasst.imaging.instances import instance_intervals, overlap, pool_instances, score_instances


def blobs(seed, count=9, side=40, shift=0):
    """Overlapping discs, later ones on top; numbers have gaps."""
    rng, labels = np.random.default_rng(seed), np.zeros((side, side), np.int32)
    y, x = np.mgrid[:side, :side]
    for number in range(count):
        cy, cx, r = rng.integers(3, side - 3), rng.integers(3, side - 3), rng.integers(3, 7)
        labels[(y - cy - shift) ** 2 + (x - cx) ** 2 <= r * r] = 3 * number + 2
    return labels


def sets_of(labels):
    return [set(map(tuple, np.argwhere(labels == n))) for n in np.unique(labels) if n]


def slow(truth, prediction):
    """PQ, AJI and F1@0.5 as their papers say them, over sets of px."""
    a, b = sets_of(truth), sets_of(prediction)
    ious = [[len(t & p) / len(t | p) for p in b] for t in a]
    pairs = [(i, j) for i in range(len(a)) for j in range(len(b)) if ious[i][j] > 0.5]
    dq = 2 * len(pairs) / (len(a) + len(b))
    sq = sum(ious[i][j] for i, j in pairs) / len(pairs) if pairs else 0.0
    above = below = 0
    used = set()
    for i, t in enumerate(a):
        j = max(range(len(b)), key=lambda j: ious[i][j])
        if ious[i][j] == 0:
            below += len(t)
            continue
        above, below = above + len(t & b[j]), below + len(t | b[j])
        used.add(j)
    below += sum(len(p) for j, p in enumerate(b) if j not in used)
    return {"dq": dq, "sq": sq, "pq": dq * sq, "aji": above / below}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("shift", [0, 1, 3])
def test_scores_equal_a_slow_count(seed, shift):
    truth, prediction = blobs(seed), np.where(blobs(seed, shift=shift) == 5, 0, blobs(seed, shift=shift))
    scores = score_instances(truth, prediction)
    for name, value in slow(truth, prediction).items():
        assert getattr(scores, name) == pytest.approx(value), name
    both = (truth > 0) & (prediction > 0)
    assert scores.dice == pytest.approx(2 * both.sum() / ((truth > 0).sum() + (prediction > 0).sum()))
    assert scores.f1[0.5] >= scores.f1[0.75] >= scores.f1[0.9]


def test_pairs_are_as_many_as_an_exhaustive_search_makes():
    from itertools import permutations

    from pathasst.imaging.instances import pairs_at

    for seed in range(20):
        iou = np.random.default_rng(seed).random((4, 5))
        most = max(sum(iou[i, j] >= 0.6 for i, j in enumerate(order)) for order in permutations(range(5), 4))
        rows, columns = pairs_at(iou, 0.6)
        assert len(rows) == most and (iou[rows, columns] >= 0.6).all() and len(set(columns)) == most


def test_a_perfect_prediction_scores_one_whatever_the_numbers():
    truth = blobs(0)
    scores = score_instances(truth, np.where(truth, truth * 7 + 1, 0))
    assert [scores.pq, scores.aji, scores.aji_plus, scores.dice, *scores.f1.values()] == [1.0] * 7


def test_nothing_predicted_scores_zero_and_nothing_at_all_has_no_score():
    empty = np.zeros((8, 8), int)
    missed = score_instances(blobs(1), np.zeros_like(blobs(1)))
    assert (missed.pq, missed.aji, missed.dice, missed.predictions) == (0, 0, 0, 0)
    assert score_instances(empty, empty + 1).pq == 0
    assert math.isnan(score_instances(empty, empty).pq)


def test_a_prediction_over_two_cells_counts_twice_for_aji_and_once_for_aji_plus():
    truth = np.array([[1, 1, 2, 2]])
    one = np.array([[9, 9, 9, 9]])
    scores = score_instances(truth, one)
    assert scores.aji == pytest.approx(4 / 8) and scores.aji_plus == pytest.approx(2 / 6)
    assert scores.pq == 0 and scores.f1[0.5] == pytest.approx(2 / 3)  # IoU is 0.5: PQ asks for more, F1@0.5 does not


def test_pictures_are_pooled_as_one_large_picture_and_empty_ones_do_no_harm():
    truths = [blobs(0), blobs(1), np.zeros((40, 40), int)]
    predictions = [blobs(0, shift=1), blobs(1, shift=2), np.zeros((40, 40), int)]
    apart = [np.hstack([t, np.where(u, u + 100, 0)]) for t, u in (truths[:2], predictions[:2])]
    pooled, one = pool_instances(truths, predictions), score_instances(*apart)
    assert pooled.pq == pytest.approx(one.pq) and pooled.aji == pytest.approx(one.aji) and pooled.f1 == pytest.approx(one.f1)
    spans = instance_intervals(truths, predictions, ["a", "b", "b"])
    assert spans["PQ"].value == pytest.approx(pooled.pq) and spans["PQ"].low <= pooled.pq <= spans["PQ"].high
    assert set(spans) == {"PQ", "DQ", "SQ", "AJI", "AJI+", "Dice", "F1@0.5", "F1@0.75", "F1@0.9"}


def test_arrays_of_unlike_size_are_refused():
    with pytest.raises(BadInput, match=r"one size, not \(4, 4\) and \(4, 5\)"):
        overlap(np.zeros((4, 4), int), np.zeros((4, 5), int))
