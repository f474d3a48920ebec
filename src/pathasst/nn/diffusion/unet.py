"""The network that removes noise: a UNet of convolutions, for two CPU cores. Knows maps and vectors, no words and no schedule.

Maps lie channels last, so that the norm over channels is one pass and convolutions find bfloat16 as they want it; there is no
attention: on maps of 16×16 the convolutions of the coarsest level see the whole cell.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

WAVES = 32
"""Frequencies that tell the noise level."""


class UNet(nn.Module):
    """N×channels×h×w maps, N times in 0…999, N×text vectors → N×channels×h×w float32. Every level halves h and w."""

    def __init__(self, channels: int, widths: Sequence[int], layers: int, text: int, context: int = 192) -> None:
        super().__init__()
        self.widths, self.layers = tuple(widths), layers
        self.time = nn.Sequential(nn.Linear(2 * WAVES, context), nn.SiLU(), nn.Linear(context, context))
        self.text = nn.Linear(text, context)
        self.start = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        now, skip_widths = widths[0], [widths[0]]
        for level, width in enumerate(widths):
            for _ in range(layers):
                self.down.append(ResidualBlock(now, width, context))
                now = width
                skip_widths.append(now)
            if level < len(widths) - 1:
                skip_widths.append(now)
        self.middle = ResidualBlock(now, now, context)
        for width in reversed(widths):
            for _ in range(layers + 1):
                self.up.append(ResidualBlock(now + skip_widths.pop(), width, context))
                now = width
        self.end = nn.Conv2d(now, channels, 3, padding=1)
        for last in (self.end.weight, self.end.bias):
            assert last is not None
            nn.init.zeros_(last)

    def forward(self, x: torch.Tensor, times: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        """See the class."""
        context = F.silu(self.time(waves(times)) + self.text(vectors))
        x = self.start(x)
        skips, down, up = [x], iter(self.down), iter(self.up)
        for level in reversed(range(len(self.widths))):
            for _ in range(self.layers):
                x = next(down)(x, context)
                skips.append(x)
            if level:
                x = F.avg_pool2d(x, 2)
                skips.append(x)
        x = self.middle(x, context)
        for level in reversed(range(len(self.widths))):
            for _ in range(self.layers + 1):
                x = next(up)(torch.cat([x, skips.pop()], 1), context)
            if level:
                x = F.interpolate(x, scale_factor=2.0)
        output: torch.Tensor = self.end(F.silu(norm(x)))
        return output.float()


class ResidualBlock(nn.Module):
    """Two convolutions beside a short cut; what is told scales and shifts the channels between them."""

    def __init__(self, inputs: int, outputs: int, context: int) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(inputs, outputs, 3, padding=1), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.told = nn.Linear(context, 2 * outputs)
        self.short = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        for last in (self.two.weight, self.two.bias):
            assert last is not None
            nn.init.zeros_(last)

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """`x` N×inputs×h×w, `told` N×told → N×outputs×h×w."""
        scale, shift = self.told(context)[:, :, None, None].chunk(2, 1)
        inner = norm(self.one(F.silu(norm(x)))) * (1 + scale) + shift
        shortcut: torch.Tensor = self.short(x) + self.two(F.silu(inner))
        return shortcut


def norm(x: torch.Tensor) -> torch.Tensor:
    """Each place of N×C×h×w freed of its mean over the channels and scaled to unit variance."""
    last = x.permute(0, 2, 3, 1)
    return F.layer_norm(last, (last.shape[-1],)).permute(0, 3, 1, 2)


def waves(times: torch.Tensor) -> torch.Tensor:
    """N times → N×2·WAVES sines and cosines, periods from 2π to about 10,000·2π."""
    rates = torch.exp(-torch.arange(WAVES, device=times.device) * (9.21 / WAVES))
    angles = times.float()[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1)
