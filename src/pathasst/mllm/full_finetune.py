"""Phase 2 on every weight of the LLM, as in the paper: float32 weights, products in the recipe's precision.

Knows `Parts`; knows no training loop. The result is a whole LLaVA checkpoint, since there is no smaller form of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pathasst.mllm import lora, model
from pathasst.mllm.model import Parts
from pathasst.training.checkpoint import full_tensor

if TYPE_CHECKING:
    import torch


def unfreeze(parts: Parts, adapters: Mapping[str, torch.Tensor], scale: float) -> None:
    """Make the LLM learn, in place: float32 weights, to which the adapters of an earlier run are added first."""
    parts.llm.float()
    lora.add_state(parts.llm, adapters, scale)
    parts.llm.requires_grad_(True)
    parts.model.lm_head.float().requires_grad_(True)


def save(parts: Parts, folder: Path, dtype: torch.dtype, *, main: bool) -> None:
    """Write the checkpoint in `dtype`. All processes must call it; the one that is `main` writes."""
    state = {}
    for name, tensor in parts.model.state_dict().items():
        tensor = full_tensor(tensor.detach())
        if main and not (name == "lm_head.weight" and parts.model.config.text_config.tie_word_embeddings):
            state[name] = tensor.cpu().to(dtype)
    if main:
        model.save(parts, folder, state)
