"""The feature pyramid (Lin et al. 2017): coarse levels are added to finer ones, so that each sees far and sharp."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F


class FeaturePyramid(nn.Module):
    """N×C_l×H_l×W_l maps, finest first → as many N×`width`×H_l×W_l maps."""

    def __init__(self, channels: list[int], width: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.smooth = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in channels)

    def forward(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        """See the class."""
        maps = [layer(f) for layer, f in zip(self.lateral, features, strict=True)]
        for coarse, fine in pairwise(range(len(maps) - 1, -1, -1)):
            maps[fine] = maps[fine] + F.interpolate(maps[coarse], size=maps[fine].shape[-2:], mode="nearest")
        return [layer(m) for layer, m in zip(self.smooth, maps, strict=True)]
