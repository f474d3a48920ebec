"""The loss of packed rows: cached vision features through the projector, the LLM, and the head at supervised places alone.

Knows `Parts` and `Row`. The head's 49,152 logits a token are a fifth of a small LLM's work; only tokens that the loss
counts pay it.
"""

from __future__ import annotations

from collections.abc import Iterator
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


def features_of(row: Row, table: torch.Tensor) -> torch.Tensor:
    """The vision features of a row's pictures, pictures × patches × width. `table`: those of all pictures."""
    import torch

    return table[torch.tensor(row.images, dtype=torch.long)]


def row_loss(parts: Parts, row: Row, features: torch.Tensor) -> torch.Tensor:
    """Summed cross-entropy over the supervised tokens of a row, float32. `features`: as `features_of`, none for no picture."""
    import torch
    from torch.nn.functional import cross_entropy

    device = parts.projector.linear_1.weight.device
    ids = torch.from_numpy(row.ids)[None].to(device)
    words = embed(parts, ids, features.to(device))
    if not len(features):
        # Processes that share a gradient need one of every weight, and in one order, also where no picture passed the projector.
        nothing = sum(p.sum() * 0 for p in parts.projector.parameters() if p.requires_grad)
        words = words + torch.as_tensor(nothing, dtype=words.dtype, device=device)
    hidden = parts.llm(
        inputs_embeds=words,
        position_ids=torch.from_numpy(row.positions)[None].to(device),
        use_cache=False,
        pieces=row.pieces,
    ).last_hidden_state[0]
    targets = torch.from_numpy(row.targets.nonzero()[0]).to(device)
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
