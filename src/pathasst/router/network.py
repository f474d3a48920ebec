"""The network and what feeds it: hidden states of a frozen sentence encoder. Knows no tool's meaning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pathasst.core import weights
from pathasst.core.errors import BadInput
from pathasst.nn.pretrained import text_encoder
from pathasst.router.settings import RouterConfig

if TYPE_CHECKING:
    import torch

MAX_CHARACTERS = 4000  # of a request; of a longer one the beginning and the end
BATCH = 64


class Tokens(NamedTuple):
    """A text as the encoder reads it: ids, with the marks of beginning and end, and where each stands in the text."""

    ids: list[int]
    spans: list[tuple[int, int]]  # (0, 0) for the marks


class Encoder:
    """The frozen sentence encoder: texts → states of their tokens."""

    def __init__(self, config: RouterConfig) -> None:
        """Raises MissingWeights, or BadInput when the encoder has not the layers."""
        from pathlib import Path

        from transformers import AutoTokenizer

        folder = Path(config.encoder) if Path(config.encoder).is_dir() else weights.path(config.encoder)
        self.config = config
        self.tokenizer = weights.load_quietly(AutoTokenizer, folder)
        self.model = text_encoder(folder)
        if max(config.layers) > self.model.config.num_hidden_layers:
            raise BadInput(
                f"{config.encoder} has {self.model.config.num_hidden_layers} layers, the router reads {config.layers}."
            )

    @property
    def width(self) -> int:
        """Values a token."""
        return len(self.config.layers) * int(self.model.config.hidden_size)

    def tokens(self, texts: Sequence[str]) -> list[Tokens]:
        """Each text as tokens; of a long one the first quarter of what is read and the end."""
        most, first, half = self.config.max_tokens, self.config.max_tokens // 4, MAX_CHARACTERS // 2
        short = [t if len(t) <= MAX_CHARACTERS else f"{t[:half]} {t[-half:]}" for t in texts]
        short = [t.encode("utf-8", "replace").decode("utf-8") for t in short]  # a lone surrogate would stop the tokenizer
        if not short:
            return []
        read = self.tokenizer(short, add_special_tokens=True, truncation=False, return_offsets_mapping=True, verbose=False)
        found = []
        for text, ids, spans in zip(texts, read.input_ids, read.offset_mapping, strict=True):
            if (left_out := len(text) - MAX_CHARACTERS - 1) > 0:
                spans = [(a + left_out, b + left_out) if a > half else (a, b) for a, b in spans]
            if len(ids) > most:
                ids, spans = [*ids[:first], *ids[first - most :]], [*spans[:first], *spans[first - most :]]
            found.append(Tokens(ids, spans))
        return found

    def states(self, texts: Sequence[str]) -> list[np.ndarray]:
        """float16 tokens × width of each text."""
        import torch

        ids = [t.ids for t in self.tokens(texts)]
        order = sorted(range(len(ids)), key=lambda n: len(ids[n]))
        found: list[Any] = [None] * len(ids)
        with torch.inference_mode():
            for start in range(0, len(order), BATCH):
                chosen = order[start : start + BATCH]
                longest = len(ids[chosen[-1]])
                padded = torch.tensor([ids[n] + [0] * (longest - len(ids[n])) for n in chosen])
                mask = torch.tensor([[1] * len(ids[n]) + [0] * (longest - len(ids[n])) for n in chosen])
                hidden = self.model(input_ids=padded, attention_mask=mask, output_hidden_states=True).hidden_states
                whole = torch.cat([hidden[layer] for layer in self.config.layers], -1).half().numpy()
                for row, n in enumerate(chosen):
                    found[n] = whole[row, : len(ids[n])]
        return found


def together(members: Sequence[Any]) -> Any:
    """Networks of one shape as one, whose logits are those of their mean probability."""
    import torch
    from torch import nn

    class Together(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.members = nn.ModuleList(members)
            self.questions: int = members[0].questions

        def forward(self, *read: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            asked, tagged = zip(*[member(*read) for member in self.members], strict=True)
            return _mean(asked), _mean(tagged)

    def _mean(logits: Sequence[torch.Tensor]) -> torch.Tensor:
        return torch.stack(tuple(logits)).sigmoid().mean(0).logit(1e-6)

    return Together()


def build(config: RouterConfig, states: int, dropout: float = 0.0) -> Any:
    """One untrained member: float32 tokens b×n×states, bool nothing b×n, float32 before b×classes → two logits, of the questions
    (b × classes, then choices) and of the tokens (b×n×spans).

    `before` marks the tools that the turn before called: a token of their own. One transformer layer over the tokens, then one
    attention query a question: what it asks for is found wherever in the request it is said.
    """
    import torch
    from torch import nn

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            width, heads, count = config.width, config.heads, len(config.classes) + len(config.choices)
            self.questions = count
            self.enter = nn.Sequential(nn.LayerNorm(states), nn.Linear(states, width), nn.Dropout(dropout))
            self.before = nn.Linear(len(config.classes), width)
            self.layer = nn.TransformerEncoderLayer(width, heads, 2 * width, dropout, "gelu", batch_first=True, norm_first=True)
            self.queries = nn.Parameter(torch.randn(count, width) * 0.02)
            self.attention = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
            self.norm = nn.LayerNorm(width)
            self.heads = nn.Parameter(torch.randn(count, width) * 0.02)
            self.bias = nn.Parameter(torch.full((count,), -2.0))  # most tools are not asked for
            self.tags = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, len(config.spans))) if config.spans else None

        def forward(self, tokens: torch.Tensor, nothing: torch.Tensor, before: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            hidden = torch.cat([self.before(before)[:, None], self.enter(tokens)], 1)
            nothing = torch.cat([torch.zeros_like(nothing[:, :1]), nothing], 1)
            hidden = self.layer(hidden, src_key_padding_mask=nothing)
            queries = self.queries.expand(len(tokens), -1, -1)
            found, _ = self.attention(queries, hidden, hidden, key_padding_mask=nothing, need_weights=False)
            tags = self.tags(hidden[:, 1:]) if self.tags is not None else hidden[:, 1:, :0]
            return (self.norm(found) * self.heads).sum(-1) + self.bias, tags

    return Network()


def called(tools: Sequence[Sequence[str]], classes: Sequence[str]) -> np.ndarray:
    """float32 [n, classes]: 1 for each tool that is named."""
    return np.array([[c in named for c in classes] for named in tools], np.float32).reshape(len(tools), len(classes))


def padded(states: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """States of several texts as one batch, and where nothing stands."""
    import torch

    longest = max(len(s) for s in states)
    tokens = np.zeros((len(states), longest, states[0].shape[1]), np.float32)
    nothing = np.ones((len(states), longest), bool)
    for row, one in enumerate(states):
        tokens[row, : len(one)] = one
        nothing[row, : len(one)] = False
    return torch.from_numpy(tokens), torch.from_numpy(nothing)
