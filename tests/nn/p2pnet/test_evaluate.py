"""Scores by hand-made cases."""

import numpy as np
import pytest

from pathasst.nn.p2pnet.evaluate import MatchCounts, count, greedy_match, interval, labelling_index


def test_the_best_score_takes_its_nearest_cell_first():
    cells = np.array([[0.0, 0.0], [10.0, 0.0]])
    predicted = np.array([[4.0, 0.0], [1.0, 0.0]])
    assert greedy_match(predicted, np.array([0.9, 0.8]), cells) == [(0, 0), (1, 1)]
    assert greedy_match(predicted, np.array([0.8, 0.9]), cells) == [(1, 0), (0, 1)]


@pytest.mark.parametrize(("distance", "pairs"), [(12.0, 1), (12.01, 0)])
def test_the_radius_is_inclusive(distance, pairs):
    assert len(greedy_match(np.array([[distance, 0.0]]), np.ones(1), np.zeros((1, 2)), 12)) == pairs


def test_one_cell_is_never_claimed_twice():
    assert len(greedy_match(np.zeros((5, 2)), np.ones(5), np.zeros((1, 2)))) == 1


def test_classes_are_matched_apart_and_detection_together():
    cells, labels = np.array([[0.0, 0.0], [50.0, 0.0]]), np.array([0, 1])
    predicted, found = np.array([[1.0, 0.0], [51.0, 0.0], [90.0, 0.0]]), np.array([1, 1, 0])
    any_class, first, second = count(predicted, np.ones(3), found, cells, labels, 2)
    assert (any_class.tp, any_class.fp, any_class.fn) == (2, 1, 0)
    assert (first.tp, first.fp, first.fn) == (0, 1, 1)
    assert (second.tp, second.fp, second.fn) == (1, 1, 0)
    assert any_class.f1 == pytest.approx(0.8)


def test_nothing_found_and_nothing_there():
    assert MatchCounts().f1 == 0 and MatchCounts(0, 0, 5).recall == 0
    assert labelling_index(0, 0) is None and labelling_index(1, 3) == 25


def test_the_interval_holds_the_pooled_value_and_shrinks_with_agreement():
    same = [[MatchCounts(8, 2, 2)]] * 10
    assert interval(same, 0) == (pytest.approx(0.8), pytest.approx(0.8))
    mixed = [[MatchCounts(10, 0, 0)], [MatchCounts(0, 10, 10)]] * 5
    low, high = interval(mixed, 0)
    assert low < 0.5 < high
