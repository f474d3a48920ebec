"""The network: proposals on a grid, moved to the cells, read at every level (DPA-P2PNet, sections 3.1–3.3).

Knows how points and feature maps relate; knows nothing of labels, files or thresholds.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from pathasst.nn.p2pnet.backbone import Backbone
from pathasst.nn.p2pnet.fpn import FeaturePyramid
from pathasst.nn.p2pnet.settings import P2PNetSettings


@dataclass(slots=True)
class Proposals:
    """What the network says about every proposal. `points`: N×P×2 px, float; `logits`: N×P×(C+1), background last."""

    points: torch.Tensor
    logits: torch.Tensor


def grid(height: int, width: int, spacing: int, device: torch.device | None = None) -> torch.Tensor:
    """Centres of `spacing`-px squares that tile the picture, P×2 (x, y) px: the first lies at spacing/2, not at 0."""
    x = (torch.arange(max(width // spacing, 1), device=device) + 0.5) * spacing
    y = (torch.arange(max(height // spacing, 1), device=device) + 0.5) * spacing
    yy, xx = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([xx, yy], -1).view(-1, 2)


def sample(features: torch.Tensor, points: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Bilinear samples of N×C×h×w `features` at N×P×2 `points` in px of the H×W picture: N×P×C.

    `align_corners=False` puts the picture's edges, not its outer pixel centres, at ±1: a point in px is just 2·x/W − 1.
    """
    size = points.new_tensor([width, height])
    where = (2 * points / size - 1).unsqueeze(2)  # never in bfloat16, whose steps are a px wide at the edge of a tile
    sampled = F.grid_sample(features.float(), where, mode="bilinear", padding_mode="border", align_corners=False)
    return sampled.squeeze(-1).transpose(1, 2)


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Two layers with a ReLU between."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


class P2PNet(nn.Module):
    """Deformable Proposal-Aware P2PNet.

    Takes N×3×H×W float in 0–1 (H, W multiples of the greatest stride and of 32), gives `Proposals`.
    """

    def __init__(self, settings: P2PNetSettings) -> None:
        super().__init__()
        self.settings = settings
        self.backbone = Backbone(settings.backbone, settings.strides, settings.channels)
        self.neck = FeaturePyramid(self.backbone.channels, settings.neck)
        width = settings.neck * len(settings.strides)
        self.deform = mlp(settings.neck, settings.hidden, 2)
        self.regress = mlp(width, settings.hidden, 2)
        self.classify = mlp(width, settings.hidden, len(settings.classes) + 1)
        for head in (self.deform, self.regress):
            last = head[-1]
            assert isinstance(last, nn.Linear)
            nn.init.zeros_(last.weight)  # proposals start on the grid; a random move would only blur the matching
            nn.init.zeros_(last.bias)

    def forward(self, images: torch.Tensor) -> Proposals:
        """See the class."""
        height, width = images.shape[-2:]
        maps = self.neck(self.backbone(images))
        start = grid(height, width, self.settings.spacing, images.device).expand(len(images), -1, -1)
        # Offsets are in units of the spacing, so that one learning rate fits every spacing.
        step = float(self.settings.spacing)
        points = start + step * self.deform(sample(maps[0], start, height, width)).float()
        read = torch.cat([sample(m, points, height, width) for m in maps], -1)
        return Proposals(points=points + step * self.regress(read).float(), logits=self.classify(read).float())
