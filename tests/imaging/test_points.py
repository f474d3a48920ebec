"""Pairs of points: one to one, within the radius, as many as possible by the optimal rule."""

from itertools import permutations

import numpy as np
import pytest

from pathasst.imaging.points import greedy_match, match_both, optimal_match


def test_the_rules_differ_where_a_greedy_prediction_takes_anothers_only_cell():
    predicted, cells = np.array([[0.0, 0], [10.0, 0]]), np.array([[4.0, 0], [-8.0, 0]])
    pairs = match_both(predicted, np.array([0.9, 0.8]), cells, radius=9)
    assert pairs == {"greedy": [(0, 0)], "optimal": [(0, 1), (1, 0)]}


@pytest.mark.parametrize("seed", range(20))
def test_optimal_pairs_are_as_many_and_as_near_as_an_exhaustive_search_makes(seed):
    rng = np.random.default_rng(seed)
    predicted, cells = rng.random((4, 2)) * 20, rng.random((5, 2)) * 20
    distance = np.linalg.norm(predicted[:, None] - cells[None], axis=-1)
    costs = []
    for order in permutations(range(5), 4):
        near = [distance[i, j] for i, j in enumerate(order) if distance[i, j] <= 6]
        costs.append((-len(near), sum(near)))
    pairs = optimal_match(predicted, cells, 6)
    assert (-len(pairs), sum(distance[p] for p in pairs)) == pytest.approx(min(costs))
    assert len(greedy_match(predicted, rng.random(4), cells, 6)) <= len(pairs)


def test_nothing_on_either_side_makes_no_pairs():
    some, none = np.ones((3, 2)), np.zeros((0, 2))
    assert match_both(some, np.ones(3), none) == match_both(none, np.ones(0), some) == {"optimal": [], "greedy": []}
