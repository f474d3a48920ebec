"""The loss: cross-entropy over all proposals, squared error of the matched points (DPA-P2PNet, section 3.4)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from pathasst.nn.p2pnet.matcher import match
from pathasst.nn.p2pnet.model import Proposals


@dataclass(slots=True)
class Losses:
    """Scalars; `total` is what training descends."""

    total: torch.Tensor
    classification: torch.Tensor
    point: torch.Tensor


@dataclass(frozen=True, slots=True)
class PointLoss:
    """Settings of the loss; see `TrainSettings` for their meaning."""

    no_object: float = 0.3
    point_weight: float = 5e-3
    match_distance: float = 0.1

    def __call__(self, proposals: Proposals, cells: list[torch.Tensor], labels: list[torch.Tensor]) -> Losses:
        """`cells`: per picture M×2 px; `labels`: per picture M int64. Pictures without cells count as background."""
        background = proposals.logits.shape[-1] - 1
        target = torch.full(proposals.logits.shape[:2], background, device=proposals.logits.device)
        errors = []
        for i, (where, what) in enumerate(zip(cells, labels, strict=True)):
            rows, columns = match(proposals.points[i], proposals.logits[i], where, what, self.match_distance)
            if len(rows):
                target[i, rows] = what[columns].to(target.device)
                errors.append((proposals.points[i, rows] - where[columns].to(proposals.points)).square().sum(-1))
        weight = torch.ones(background + 1, device=target.device)
        weight[background] = self.no_object
        classification = F.cross_entropy(proposals.logits.flatten(0, 1), target.flatten(), weight=weight)
        # The mean over matched cells, so that a crowded picture does not outweigh a sparse one.
        point = torch.cat(errors).mean() if errors else proposals.points.sum() * 0
        return Losses(
            total=classification + self.point_weight * point, classification=classification.detach(), point=point.detach()
        )
