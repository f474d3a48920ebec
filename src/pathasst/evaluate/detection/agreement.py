"""Agreement of two readings of a number (a Ki67 index by a person and by a tool): ICC, Bland–Altman. Knows arrays alone.

- ICC(2,1), absolute agreement, two-way random, single reading; ICC(3,1), consistency: a fixed offset does not count against it
  (Shrout & Fleiss 1979; McGraw & Wong 1996 call them ICC(A,1) and ICC(C,1)).
- Bland–Altman: bias (second − first) and limits of agreement, bias ± 1.96 SD of the differences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pathasst.core.errors import BadDataset
from pathasst.core.statistics import Interval, sums_interval


@dataclass(frozen=True, slots=True)
class Agreement:
    """How two readings of the same things agree; intervals by cluster."""

    n: int
    icc: Interval  # ICC(2,1)
    icc_consistency: Interval  # ICC(3,1)
    bias: Interval
    lower: Interval  # limit of agreement
    upper: Interval
    mean_error: Interval  # mean absolute difference


def agreement(first: Sequence[float], second: Sequence[float], clusters: Sequence[str] | None = None) -> Agreement:
    """Agreement of two readings float [n]. Raises BadDataset for fewer than three pairs."""
    x, y = np.asarray(first, float), np.asarray(second, float)
    if len(x) < 3 or len(x) != len(y):
        raise BadDataset(f"agreement needs at least three pairs of readings; there are {min(len(x), len(y))}.")
    rows = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y, np.abs(y - x)], axis=1)

    def limit(sign: float) -> Interval:
        return sums_interval(lambda s: _bias(s) + sign * 1.96 * _spread(s), rows, clusters)

    return Agreement(
        n=len(x),
        icc=sums_interval(lambda s: _icc(s)[0], rows, clusters),
        icc_consistency=sums_interval(lambda s: _icc(s)[1], rows, clusters),
        bias=sums_interval(_bias, rows, clusters),
        lower=limit(-1),
        upper=limit(1),
        mean_error=sums_interval(lambda s: s[:, 6] / s[:, 0], rows, clusters),
    )


def _bias(sums: np.ndarray) -> np.ndarray:
    return (sums[:, 2] - sums[:, 1]) / sums[:, 0]  # type: ignore[no-any-return]


def _spread(sums: np.ndarray) -> np.ndarray:
    """Standard deviation of the differences, n − 1 below."""
    n = sums[:, 0]
    squares = sums[:, 3] + sums[:, 4] - 2 * sums[:, 5]
    return np.sqrt(np.maximum(squares - n * _bias(sums) ** 2, 0) / np.maximum(n - 1, 1))  # type: ignore[no-any-return]


def _icc(sums: np.ndarray) -> np.ndarray:
    """[draws, 7] → [2, draws]: ICC(2,1) and ICC(3,1) from the mean squares of a two-way table of two columns."""
    n, x, y, xx, yy, xy, _ = sums.T
    grand = (x + y) / (2 * n)
    total = xx + yy - 2 * n * grand**2
    rows = (xx + 2 * xy + yy) / 2 - 2 * n * grand**2  # 2 · Σ (mean of a row − grand mean)²
    columns = (x**2 + y**2) / n - 2 * n * grand**2
    msr, msc = rows / np.maximum(n - 1, 1), columns
    mse = (total - rows - columns) / np.maximum(n - 1, 1)
    absolute = (msr - mse) / np.where(msr + mse + 2 * (msc - mse) / n, msr + mse + 2 * (msc - mse) / n, np.nan)
    return np.stack([absolute, (msr - mse) / np.where(msr + mse, msr + mse, np.nan)])


def draw_bland_altman(first: Sequence[float], second: Sequence[float], result: Agreement, unit: str = "%") -> bytes:
    """A PNG: difference over mean of each pair, with the bias and the limits of agreement."""
    from pathasst.core.plots import COLOURS, plot, png

    x, y = np.asarray(first, float), np.asarray(second, float)
    [axes] = plot(6, 4)
    axes.scatter((x + y) / 2, y - x, s=16, alpha=0.7)
    for value, style in ((result.bias.value, "-"), (result.lower.value, "--"), (result.upper.value, "--")):
        axes.axhline(value, linestyle=style, color=COLOURS[1], linewidth=1)
        axes.annotate(f"{value:.1f}", (1.0, value), xycoords=("axes fraction", "data"), va="bottom", ha="right", fontsize=8)
    axes.axhline(0, color="grey", linewidth=0.5)
    axes.set(xlabel=f"mean of both ({unit})", ylabel=f"second − first ({unit})")
    axes.set_title(f"Bland–Altman, n = {result.n}; ICC(2,1) {result.icc.value:.3f}", fontsize=10)
    return png(axes)
