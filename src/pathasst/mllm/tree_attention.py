"""Attention over a packed row, piece by piece: a conversation looks at itself and at the system turn it shares, at nothing
else.

Registered with transformers as the attention `pathasst_tree`; the row's pieces come in through the model's keyword
arguments. A dense mask over the row would spend most of its work on pairs that are masked, and its backward pass dominates
the step on a CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

NAME = "pathasst_tree"


@dataclass(frozen=True, slots=True)
class TreePiece:
    """A run of tokens [start, end) of a row, and the runs that it continues: a system turn, a picture (or none)."""

    start: int
    end: int
    above: tuple[tuple[int, int], ...] = ()


def register() -> str:
    """Make the attention known to transformers; returns its name for `attn_implementation`."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, tree_attention)
    return NAME


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
