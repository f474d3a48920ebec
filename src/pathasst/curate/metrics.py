"""The few scores that this room measures itself with. Pure functions of arrays; knows no model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def f1_score(labels: np.ndarray, found: np.ndarray) -> float:
    """F1 of the positive class; both arrays bool or 0/1 of shape (n,). 0.0 when nothing is positive."""
    labels, found = labels.astype(bool), found.astype(bool)
    hits = int((labels & found).sum())
    total = int(labels.sum()) + int(found.sum())
    return 2 * hits / total if total else 0.0


def interval(
    score: Callable[[np.ndarray], float], groups: Sequence[str], *, rounds: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile interval of `score(indices)` under a bootstrap that draws whole groups."""
    import numpy as np

    members: dict[str, list[int]] = {}
    for i, group in enumerate(groups):
        members.setdefault(group, []).append(i)
    parts = [np.array(m) for m in members.values()]
    rng = np.random.default_rng(seed)
    values = [score(np.concatenate([parts[k] for k in rng.integers(0, len(parts), len(parts))])) for _ in range(rounds)]
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes x1 y1 x2 y2."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)
