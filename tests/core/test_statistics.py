"""Intervals against closed forms, and what a cluster bootstrap must and must not do."""

import numpy as np
import pytest

from pathasst.core.statistics import Interval, cluster_numbers, draw_counts, f1_interval, mean_interval, sums_interval, wilson


def test_wilson_equals_statsmodels_known_values():
    # 95 % Wilson intervals as statsmodels.stats.proportion.proportion_confint(method="wilson") prints them
    found = wilson(8, 10)
    assert (found.low, found.high) == pytest.approx((0.490162, 0.943318), abs=1e-5)
    assert wilson(0, 0) == Interval(0.0, 0.0, 1.0)
    assert wilson(77, 77).high == pytest.approx(1.0)
    assert all(f"{wilson(0, n).low:.1f}" == "0.0" and wilson(n, n).high <= 1 for n in range(1, 200))


def test_mean_interval_is_near_the_normal_one():
    values = np.random.default_rng(1).normal(5, 2, 400)
    found = mean_interval(values, draws=4000)
    half = 1.96 * values.std() / 20
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.03)


def test_copies_of_an_item_do_not_narrow_the_interval():
    values = np.random.default_rng(2).random(30)
    once = mean_interval(values, range(30))
    copied = mean_interval(np.repeat(values, 10), np.repeat(np.arange(30), 10))
    pretended = mean_interval(np.repeat(values, 10))
    assert (copied.value, copied.low, copied.high) == pytest.approx((once.value, once.low, once.high))
    assert pretended.high - pretended.low < 0.5 * (once.high - once.low)


def test_f1_interval_pools_counts_and_agrees_with_the_slow_bootstrap():
    counts = np.random.default_rng(3).integers(0, 20, (25, 3))
    found = f1_interval(counts, draws=3000)

    def slow(i: np.ndarray) -> float:
        tp, fp, fn = counts[i].sum(0)
        return 2 * tp / (2 * tp + fp + fn)

    rng = np.random.default_rng(5)
    peer = np.percentile([slow(rng.integers(0, 25, 25)) for _ in range(3000)], [2.5, 97.5])
    assert found.value == slow(np.arange(25))
    assert (found.low, found.high) == pytest.approx(tuple(peer), abs=0.01)


def test_f1_of_nothing_found_and_nothing_missed_is_zero():
    assert f1_interval(np.zeros((4, 3))) == Interval(0.0, 0.0, 0.0)


def test_interval_says_what_it_excludes():
    found = Interval(0.5, 0.4, 0.6)
    assert [found.excludes(x) for x in (0.39, 0.4, 0.6, 0.61)] == [True, False, False, True]
    assert str(Interval(0.5, 0.4, 0.6)) == "0.500 [0.400, 0.600]"


def test_clusters_are_numbered_in_order_of_appearance():
    assert cluster_numbers(["b", "a", "b", "c"]).tolist() == [0, 1, 0, 2]


SQUARES = np.arange(12.0) ** 2


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (mean_interval(SQUARES), (42.166666666666664, 21.833333333333332, 66.425)),
        (
            sums_interval(lambda s: s[:, 0] / s[:, 1], np.stack([SQUARES, SQUARES + 1], axis=1)),
            (0.9768339768339769, 0.9562043795620438, 0.9851686971752288),
        ),
        (
            f1_interval(np.random.default_rng(3).integers(0, 20, (25, 3))),
            (0.3957091775923719, 0.3114219545300306, 0.47887995433866604),
        ),
    ],
)
def test_draws_and_seed_are_those_of_the_published_numbers(found, wanted):
    """1,000 draws, seed 0, percentiles 2.5 and 97.5: a table of a card can be made again to its last digit."""
    assert (found.value, found.low, found.high) == pytest.approx(wanted, rel=1e-12)


def test_one_cluster_alone_has_no_spread():
    assert mean_interval([0.5, 1.0], ["a", "a"]) == Interval(0.75, 0.75, 0.75)
    assert draw_counts(3, draws=50).sum(1).tolist() == [3] * 50
    assert (draw_counts(3) == draw_counts(3, draws=1000, seed=0)).all()
