"""The loss of packed rows: cached vision features through the projector, the LLM, and the head at supervised places alone.

Knows `Parts` and `Row`. The head's 49,152 logits a token are a fifth of a small LLM's work; only tokens that the loss
counts pay it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pathasst.core.records import IMAGE
from pathasst.mllm.model import Parts
from pathasst.mllm.pack import Row
from pathasst.mllm.tree_attention import register

if TYPE_CHECKING:
    import torch


def embed(parts: Parts, ids: torch.Tensor, features: torch.Tensor | None) -> torch.Tensor:
    """1×n×hidden: words from the embedding, placeholders from the projected `features` (pictures × patches × vision width)."""
    hidden: torch.Tensor = parts.llm.get_input_embeddings()(ids)
    if features is None or len(features) == 0:
        return hidden
    place = (ids == parts.tokenizer.convert_tokens_to_ids(IMAGE)).unsqueeze(-1)
    projected = parts.projector(features.to(parts.projector.linear_1.weight.dtype))
    return hidden.masked_scatter(place, projected.to(hidden.dtype))


def row_loss(parts: Parts, row: Row, table: torch.Tensor) -> torch.Tensor:
    """Summed cross-entropy over the supervised tokens of a row, float32. `table`: all vision features, images × patches ×
    width.
    """
    import torch
    from torch.nn.functional import cross_entropy

    device = parts.model.device
    ids = torch.from_numpy(row.ids)[None].to(device)
    features = table[torch.tensor(row.images, dtype=torch.long)].to(device) if row.images else None
    hidden = parts.llm(
        inputs_embeds=embed(parts, ids, features),
        position_ids=torch.from_numpy(row.positions)[None].to(device),
        use_cache=False,
        pieces=row.pieces,
    ).last_hidden_state[0]
    targets = torch.from_numpy(row.targets).nonzero()[:, 0].to(device)
    logits = parts.model.lm_head(hidden[targets - 1])
    return cross_entropy(logits.float(), ids[0, targets], reduction="sum")


@contextmanager
def tree(parts: Parts) -> Iterator[None]:
    """Within it, the LLM attends over packed rows; afterwards as before. `row_loss` needs it."""
    config = parts.llm.config
    before = config._attn_implementation
    config._attn_implementation = register()
    try:
        yield
    finally:
        config._attn_implementation = before


def mean_loss(parts: Parts, rows: Sequence[Row], table: torch.Tensor) -> float:
    """Mean loss a supervised token over rows, without gradients."""
    import torch

    total, count = 0.0, 0
    with torch.no_grad():
        for row in rows:
            total += float(row_loss(parts, row, table))
            count += int(row.targets.sum())
    return total / max(count, 1)
