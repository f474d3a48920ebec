"""Phase 2 on every weight of the LLM, as in the paper: float32 weights, products in the recipe's precision.

Knows `Parts`; knows no training loop. The result is a whole LLaVA checkpoint, since there is no smaller form of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from pathasst.mllm import distributed, lora, model
from pathasst.mllm.model import Parts

if TYPE_CHECKING:
    import torch


def unfreeze(parts: Parts, adapters: Mapping[str, torch.Tensor], scale: float) -> None:
    """Make the LLM learn, in place: float32 weights, to which the adapters of an earlier run are added first."""
    parts.llm.float()
    lora.add_state(parts.llm, adapters, scale)
    parts.llm.requires_grad_(True)
    parts.model.lm_head.float().requires_grad_(True)


def products(device: str, dtype: torch.dtype) -> AbstractContextManager[None]:
    """Within it, float32 weights are multiplied in `dtype`.

    Nothing is cached: torch would keep the first step's rounded weights until the context ends.
    """
    import torch

    return torch.autocast(device, dtype, cache_enabled=False) if dtype != torch.float32 else nullcontext()


def save(parts: Parts, folder: Path, dtype: torch.dtype) -> None:
    """Write the checkpoint in `dtype`. All processes must call it; one writes."""
    state = {n: distributed.whole(p.detach()).cpu().to(dtype) for n, p in parts.model.state_dict().items()}
    if distributed.world()[0] == 0:
        model.save(parts, folder, state)
