"""95 % intervals of measured values: cluster bootstrap, Wilson, paired difference. Knows arrays alone; every room may use it.

The bootstrap draws whole clusters (originals, slides, articles) with replacement: copies of one picture are no new evidence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

DRAWS = 1000
Z = 1.959964
"""Standard normal quantile of 97.5 %."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A measured value with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def excludes(self, value: float) -> bool:
        """Whether `value` lies outside of the interval."""
        return value < self.low or value > self.high


def wilson(hits: int, n: int) -> Interval:
    """A proportion with Wilson's score interval; of nothing at all, 0 with the interval [0, 1]."""
    if n == 0:
        return Interval(0.0, 0.0, 1.0)
    p = hits / n
    centre, half = p + Z * Z / (2 * n), Z * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    low, high = (centre - half) / (1 + Z * Z / n), (centre + half) / (1 + Z * Z / n)
    return Interval(p, max(low, 0.0), min(high, 1.0))  # rounding must not print −0.0


def cluster_numbers(clusters: Sequence[Hashable]) -> np.ndarray:
    """Each item's cluster as a number from 0, in order of first appearance: int [n]."""
    import numpy as np

    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(c, len(numbers)) for c in clusters], int)


def draw_counts(clusters: int, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """How often each cluster occurs in each bootstrap draw: int [draws, clusters]."""
    import numpy as np

    return np.random.default_rng(seed).multinomial(clusters, np.full(clusters, 1 / clusters), draws)


def sums_interval(
    score: Callable[[np.ndarray], np.ndarray],
    per_item: np.ndarray,
    clusters: Sequence[Hashable] | None = None,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval:
    """The interval of a score that is a function of sums over items (a mean, a pooled F1): no loop over draws.

    Args:
        score: sums float [draws, k] → scores float [draws].
        per_item: float [n, k], what is summed.
        clusters: n names; each item its own cluster by default.
        draws: how many bootstrap draws.
        seed: of the draws.

    """
    import numpy as np

    rows = np.asarray(per_item, float)
    index = np.arange(len(rows)) if clusters is None else cluster_numbers(clusters)
    totals = np.zeros((int(index.max()) + 1, rows.shape[1]))
    np.add.at(totals, index, rows)
    spread = score(draw_counts(len(totals), draws, seed) @ totals)
    low, high = np.nanpercentile(spread, [2.5, 97.5])
    return Interval(float(score(totals.sum(0, keepdims=True))[0]), float(low), float(high))


def mean_interval(
    values: Sequence[float] | np.ndarray, clusters: Sequence[Hashable] | None = None, *, draws: int = DRAWS, seed: int = 0
) -> Interval:
    """The mean of per-item values with a cluster bootstrap; of two such arrays' differences it is the paired comparison."""
    import numpy as np

    flat = np.asarray(values, float)
    pairs = np.stack([flat, np.ones_like(flat)], axis=1)
    return sums_interval(lambda sums: sums[:, 0] / sums[:, 1], pairs, clusters, draws=draws, seed=seed)


def f1_interval(counts: np.ndarray, clusters: Sequence[Hashable] | None = None, *, draws: int = DRAWS, seed: int = 0) -> Interval:
    """Pooled F1 of per-item true positives, false positives and false negatives: counts [n, 3]."""
    import numpy as np

    def f1(sums: np.ndarray) -> np.ndarray:
        return 2 * sums[:, 0] / np.maximum(2 * sums[:, 0] + sums[:, 1] + sums[:, 2], 1)

    return sums_interval(f1, counts, clusters, draws=draws, seed=seed)
