"""The network: EfficientNet-Lite0 down to stride 16 and a decoder back to every pixel. Knows no labels, files or thresholds."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from pathasst.nn.nuclei.settings import NucleiSettings
from pathasst.nn.p2pnet.backbone import Backbone
from pathasst.nn.pretrained import NAME

STRIDES = (2, 4, 8, 16)
MAPS = 4


class NucleiNet(nn.Module):
    """N×3×H×W float in 0–1 (H, W multiples of 16) → N×4×H×W: logits of foreground and centre, ways to the centre."""

    def __init__(self, settings: NucleiSettings) -> None:
        super().__init__()
        self.settings = settings
        self.backbone = Backbone(NAME, STRIDES)
        widths = settings.widths
        self.lateral = nn.ModuleList(nn.Conv2d(c, w, 1) for c, w in zip(self.backbone.channels, widths, strict=True))
        self.narrow = nn.ModuleList(nn.Conv2d(widths[i + 1], widths[i], 1) for i in range(3))
        self.smooth = nn.ModuleList(_block(w, w) for w in widths[:3])
        self.head = nn.Conv2d(widths[0], MAPS * 4, 3, padding=1)  # four pixels of each map at stride 2

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """See the class."""
        features = [layer(f) for layer, f in zip(self.lateral, self.backbone(images), strict=True)]
        out = F.relu(features[3])
        for i in (2, 1, 0):  # narrowed before it grows: the same sum for a quarter of the work
            up = F.interpolate(self.narrow[i](out), scale_factor=2, mode="nearest")
            out = self.smooth[i](features[i] + up)
        return F.pixel_shuffle(self.head(out), 2)


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))
