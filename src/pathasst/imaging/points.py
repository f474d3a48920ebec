"""One-to-one pairs of predicted and true points within a radius, by the two rules of the field. Knows coordinates alone.

The greedy rule (BCData, P2PNet, most papers on cell detection) goes through predictions from the best score on; each takes its
nearest free cell. The optimal rule (HoVer-Net's types, MIDOG) makes as many pairs as possible, the nearest in sum. They
differ where cells are dense, so `match_both` gives both.
"""

from __future__ import annotations

import numpy as np

RADIUS = 12.0
"""px within which a prediction may claim a cell (12 px at 40×)."""

Pairs = list[tuple[int, int]]
"""(prediction, cell), each at most once."""


def greedy_match(predicted: np.ndarray, scores: np.ndarray, cells: np.ndarray, radius: float = RADIUS) -> Pairs:
    """Each prediction P×2, best score first, takes its nearest free cell of M×2 within `radius` px."""
    pairs: Pairs = []
    if not len(predicted) or not len(cells):
        return pairs
    distance = np.linalg.norm(predicted[:, None] - cells[None], axis=-1)
    for i in np.argsort(-scores, kind="stable"):
        j = int(distance[i].argmin())
        if distance[i, j] <= radius:
            pairs.append((int(i), j))
            distance[:, j] = np.inf
    return pairs


def optimal_match(predicted: np.ndarray, cells: np.ndarray, radius: float = RADIUS) -> Pairs:
    """As many pairs within `radius` px as there can be, and of these the nearest in sum; predictions P×2, cells M×2."""
    from scipy.optimize import linear_sum_assignment

    if not len(predicted) or not len(cells):
        return []
    distance = np.linalg.norm(predicted[:, None] - cells[None], axis=-1)
    far = (radius + 1) * (min(distance.shape) + 1)  # dearer than any number of near pairs
    rows, columns = linear_sum_assignment(np.where(distance <= radius, distance, far))
    return [(int(i), int(j)) for i, j in zip(rows, columns, strict=True) if distance[i, j] <= radius]


def match_both(predicted: np.ndarray, scores: np.ndarray, cells: np.ndarray, radius: float = RADIUS) -> dict[str, Pairs]:
    """The pairs by each rule: "optimal" and "greedy"."""
    return {"optimal": optimal_match(predicted, cells, radius), "greedy": greedy_match(predicted, scores, cells, radius)}
