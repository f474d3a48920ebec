"""One-to-one assignment of proposals to labelled cells (DPA-P2PNet, section 3.4)."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment


@torch.no_grad()
def match(
    points: torch.Tensor, logits: torch.Tensor, cells: torch.Tensor, labels: torch.Tensor, distance: float = 0.1
) -> tuple[torch.Tensor, torch.Tensor]:
    """Hungarian matching of one picture.

    `points` P×2 px, `logits` P×(C+1), `cells` M×2 px, `labels` M int64 in 0…C−1. The cost of a pair is
    `distance`·‖point − cell‖ − p(class of the cell). Returns indices of proposals and of cells, min(P, M) of each.
    """
    if not len(cells):
        return torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64)
    probability = logits.softmax(-1)[:, labels]
    cost = distance * torch.cdist(points, cells.to(points.dtype)) - probability
    rows, columns = linear_sum_assignment(np.nan_to_num(cost.cpu().numpy(), nan=1e4))
    return torch.as_tensor(rows), torch.as_tensor(columns)
