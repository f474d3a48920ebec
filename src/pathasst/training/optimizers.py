"""Which form of AdamW takes the steps: torch's, torch's as one kernel, or bitsandbytes' in eight bits. Knows no model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pathasst.core.errors import BadSettings, MissingPackage

if TYPE_CHECKING:
    import torch

EIGHT_BITS = ("adamw-8bit", "paged-adamw-8bit")
SMALL, BLOCK = 4096, 256
"""bitsandbytes keeps the moments of tensors with fewer elements in 32 bits, and one float32 scale for each block of a moment."""


def as_chosen(
    optimizer: torch.optim.Optimizer, kind: str, device: torch.device, *, sharded: bool = False
) -> torch.optim.Optimizer:
    """The same groups and rates under the AdamW called `kind`. `sharded`: whether the weights are shared out (FSDP).

    Raises BadSettings where a kind cannot run, MissingPackage without bitsandbytes.
    """
    if kind == "adamw":
        return optimizer
    if kind == "adamw-fused":
        import torch

        own = {"fused", "foreach", "differentiable", "capturable"}  # ways to compute the step, one of which is chosen
        groups = [{name: value for name, value in group.items() if name not in own} for group in optimizer.param_groups]
        return torch.optim.AdamW(groups, fused=True)
    if sharded:
        raise BadSettings(f"optimizer: {kind} cannot be sharded over processes (FSDP); choose adamw or adamw-fused.")
    if kind.startswith("paged") and device.type != "cuda":
        raise BadSettings(f"optimizer: {kind} pages its moments out of a GPU, and this runs on {device.type}; choose adamw-8bit.")
    try:
        from bitsandbytes.optim import AdamW8bit, PagedAdamW8bit
    except ImportError as error:
        raise MissingPackage(f"optimizer: {kind} needs bitsandbytes: pip install 'pathasst[qlora]'.") from error
    eight_bits = PagedAdamW8bit if kind.startswith("paged") else AdamW8bit
    names = ("params", "lr", "betas", "eps", "weight_decay")
    eight: torch.optim.Optimizer = eight_bits([{name: group[name] for name in names} for group in optimizer.param_groups])
    return eight


def moment_bytes(elements: int, kind: str = "adamw") -> float:
    """Bytes of both moments of a tensor with so many elements."""
    if kind not in EIGHT_BITS or elements < SMALL:
        return 8.0 * elements
    return 2.0 * elements + 8.0 * math.ceil(elements / BLOCK)
