"""Weights as they are stored: matrices as integers of eight bits, a scale a row, the rest in float16. Knows tensors alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

SCALE = ".scale"  # after the name of a matrix: its rows' scales, float32
LEAST = 4096  # values of a matrix that is worth it


def compact(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Half the bytes of float16; a weight moves by at most 1/254 of the largest of its row."""
    import torch

    eight_bit: dict[str, torch.Tensor] = {}
    for name, weight in state.items():
        if weight.dim() == 2 and weight.numel() >= LEAST:
            scale = (weight.float().abs().amax(1) / 127).clamp_min(1e-12)
            eight_bit[name] = (weight.float() / scale[:, None]).round().clamp(-127, 127).to(torch.int8)
            eight_bit[name + SCALE] = scale
        else:
            eight_bit[name] = weight.half().contiguous()
    return eight_bit


def expanded(eight_bit: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """float32 weights of what `compact` made, or of plain float16."""
    return {
        name: weight.float() * eight_bit[name + SCALE][:, None] if name + SCALE in eight_bit else weight.float()
        for name, weight in eight_bit.items()
        if not name.endswith(SCALE)
    }
