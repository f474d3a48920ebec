"""The loss of packed rows: cached vision features through the projector, the LLM, and the head at supervised places alone.

Knows `Parts` and `Row`. The head's 49,152 logits a token are a fifth of a small LLM's work; only tokens that the loss
counts pay it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pathasst.core.records import IMAGE
from pathasst.mllm.layouts import PatchTokens, joined
from pathasst.mllm.model import Parts
from pathasst.mllm.pack import PicturePlace, Row
from pathasst.mllm.tree_attention import PIECES, VARLEN, register, varlen_runs

if TYPE_CHECKING:
    import torch


def embed(parts: Parts, ids: torch.Tensor, pictures: PatchTokens | None) -> torch.Tensor:
    """1×n×hidden: words from the embedding, placeholders from the projected pictures."""
    hidden: torch.Tensor = parts.llm.get_input_embeddings()(ids)
    if pictures is None or len(pictures.tiles) == 0:
        return hidden
    place = (ids == parts.tokenizer.convert_tokens_to_ids(IMAGE)).unsqueeze(-1)
    projected = parts.projector(pictures.tiles.to(parts.projector.linear_1.weight.dtype))
    return hidden.masked_scatter(place, joined(projected, pictures.sizes, parts.model, parts.projector).to(hidden.dtype))


def features_of(row: Row, table: torch.Tensor, places: Sequence[PicturePlace] = ()) -> PatchTokens:
    """The vision features of a row's pictures. `table`: squares × patches × width of all pictures; `places`: where each lies in
    it, if one picture may be several squares."""
    import torch

    if not places:
        return PatchTokens(table[torch.tensor(row.images, dtype=torch.long)], torch.zeros(len(row.images), 2, dtype=torch.long))
    of_row = [places[n] for n in row.images]
    squares = [n for place in of_row for n in range(place.first, place.first + place.squares)]
    sizes = torch.tensor([[place.height, place.width] for place in of_row], dtype=torch.long).reshape(-1, 2)
    return PatchTokens(table[torch.tensor(squares, dtype=torch.long)], sizes)


def row_loss(parts: Parts, row: Row, pictures: PatchTokens) -> torch.Tensor:
    """Summed cross-entropy over the supervised tokens of a row, float32. `pictures`: as `features_of`."""
    import torch
    from torch.nn.functional import cross_entropy

    device = parts.projector.linear_1.weight.device
    ids = torch.from_numpy(row.ids)[None].to(device)
    words = embed(parts, ids, PatchTokens(pictures.tiles.to(device), pictures.sizes))
    if not len(pictures.tiles):
        # Processes that share a gradient need one of every weight, and in one order, also where no picture passed the projector.
        nothing = sum(p.sum() * 0 for p in parts.projector.parameters() if p.requires_grad)
        words = words + torch.as_tensor(nothing, dtype=words.dtype, device=device)
    varlen = parts.llm.config._attn_implementation == VARLEN
    hidden = parts.llm(
        inputs_embeds=words,
        position_ids=torch.from_numpy(row.positions)[None].to(device),
        use_cache=False,
        **({"runs": varlen_runs(row.pieces, device)} if varlen else {"pieces": row.pieces}),
    ).last_hidden_state[0]
    targets = torch.from_numpy(row.targets.nonzero()[0]).to(device)
    logits = parts.model.lm_head(hidden[targets - 1])
    return cross_entropy(logits.float(), ids[0, targets], reduction="sum")


@contextmanager
def tree(parts: Parts, *, varlen: bool = False) -> Iterator[None]:
    """Within it, the LLM attends over packed rows, piece by piece or with `varlen` in one call; afterwards as before. `row_loss`
    needs it."""
    config = parts.llm.config
    before = config._attn_implementation
    register()
    config._attn_implementation = VARLEN if varlen else PIECES
    try:
        yield
    finally:
        config._attn_implementation = before
