"""Attention over a packed row: a conversation looks at itself and at the system turn it shares, at nothing else.

Two ways, registered with transformers: `pathasst_tree` takes the row piece by piece, on any device; `pathasst_varlen` takes all
pieces in one call of torch's flash attention for sequences of different lengths, on a GPU in half precision. What a row needs
of them comes in through the model's keyword arguments. A dense mask over the row would spend most of its work on pairs that are
masked, and its backward pass dominates the step on a CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch

PIECES, VARLEN = "pathasst_tree", "pathasst_varlen"


@dataclass(frozen=True, slots=True)
class TreePiece:
    """A run of tokens [start, end) of a row, and the runs that it continues: a system turn, a picture (or none)."""

    start: int
    end: int
    above: tuple[tuple[int, int], ...] = ()


class VarlenRuns(NamedTuple):
    """A row's pieces as the kernel takes them: each is a sequence of queries, and one of keys that ends with the same tokens."""

    keys: torch.Tensor  # int64: places in the row of the keys of all pieces, one piece after the other
    query_edges: torch.Tensor  # int32, pieces + 1: where the queries of each begin, and the last end
    key_edges: torch.Tensor  # int32, pieces + 1: the same of `keys`
    most_queries: int  # of a piece
    most_keys: int


def register() -> None:
    """Make both ways known to transformers, under their names for `attn_implementation`."""
    from transformers import AttentionInterface

    AttentionInterface.register(PIECES, tree_attention)
    AttentionInterface.register(VARLEN, varlen_attention)


def varlen_runs(pieces: Sequence[TreePiece], device: torch.device) -> VarlenRuns:
    """What `varlen_attention` needs of a row whose `pieces` cover its tokens in order; once a row, for all layers."""
    import torch

    runs = [[*piece.above, (piece.start, piece.end)] for piece in pieces]
    queries = [piece.end - piece.start for piece in pieces]
    keys = [sum(end - start for start, end in of_piece) for of_piece in runs]
    places = torch.cat([torch.arange(start, end) for of_piece in runs for start, end in of_piece])
    edges = [torch.tensor([0, *accumulate(lengths)], dtype=torch.int32).to(device) for lengths in (queries, keys)]
    return VarlenRuns(places.to(device), edges[0], edges[1], max(queries), max(keys))


def tree_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    pieces: Sequence[TreePiece] = (),
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Query 1×heads×n×d, key and value 1×kv×n×d → output 1×n×heads×d. `pieces` cover the n tokens in order.

    `sliding_window`: tokens that a token sees back to, itself among them (Mistral, Gemma); `softcap`: of the scores (Gemma 2).
    """
    import torch

    outputs = []
    for piece in pieces:
        runs = [*piece.above, (piece.start, piece.end)]
        keys, values = (torch.cat([t[0, :, a:b] for a, b in runs], dim=1) for t in (key, value))
        outputs.append(_causal(query[0, :, piece.start : piece.end], keys, values, scaling, sliding_window or 0, softcap or 0.0))
    return torch.cat(outputs).unsqueeze(0), None


def varlen_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    runs: VarlenRuns | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """As `tree_attention`, in one call. The kernel aligns the last query of a sequence with its last key, so the keys of what a
    piece continues stand before its own. It knows no cap of scores: raises ValueError for a `softcap`.
    """
    from torch.nn.attention.varlen import varlen_attn

    if runs is None or softcap:
        raise ValueError("attention of variable length needs the runs of a row, and caps no scores")
    rows = [tensor[0].transpose(0, 1) for tensor in (query, key, value)]  # n×heads×d
    output = varlen_attn(
        rows[0].contiguous(),
        rows[1].index_select(0, runs.keys),
        rows[2].index_select(0, runs.keys),
        runs.query_edges,
        runs.key_edges,
        runs.most_queries,
        runs.most_keys,
        scale=scaling,
        window_size=(sliding_window - 1 if sliding_window else -1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return output.unsqueeze(0), None  # type: ignore[union-attr]


def _causal(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float, window: int, softcap: float
) -> torch.Tensor:
    """heads×n×d looking at kv×m×d, the last n of the m being the queries' own places → n×heads×d.

    Written as plain products: in bfloat16 they run on AMX, which the fused CPU kernel's backward pass does not use.
    """
    import torch

    heads, n, width = query.shape
    kv, m, _ = key.shape
    grouped = query.reshape(kv, heads // kv * n, width)
    scores = torch.bmm(grouped, key.transpose(1, 2)).view(kv, heads // kv, n, m)
    future = torch.full((n, n), float("-inf"), dtype=scores.dtype, device=scores.device).triu(1)
    mask = torch.cat([torch.zeros(n, m - n, dtype=scores.dtype, device=scores.device), future], dim=1) if m > n else future
    if window and m > window:  # the runs together are one conversation from its start, so places in them are distances
        places = torch.arange(m, device=scores.device)
        mask = mask.masked_fill(places[m - n :, None] - places >= window, float("-inf"))
    if softcap:
        scores, scaling = softcap * torch.tanh(scores * (scaling / softcap)), 1.0
    odds = torch.softmax(torch.add(mask, scores, alpha=scaling), dim=-1, dtype=torch.float32).to(value.dtype)
    out = torch.bmm(odds.view(kv, heads // kv * n, m), value)
    return out.view(heads, n, width).transpose(0, 1)
