"""The network and what feeds it: hidden states of a frozen sentence encoder. Knows no tool's meaning."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pathasst.core import weights
from pathasst.core.errors import BadInput
from pathasst.nn import e5
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
    """The frozen sentence encoder, multilingual E5 small: texts → states of their tokens."""

    def __init__(self, config: RouterConfig) -> None:
        """Raises MissingWeights, or BadInput when the encoder has not the layers."""
        folder = Path(config.encoder) if Path(config.encoder).is_dir() else weights.path(config.encoder)
        if not (folder / e5.FILE).is_file():
            raise BadInput(f"{folder} holds no {e5.FILE}; a router reads the states of e5-small.")
        self.config = config
        self.model = e5.load(folder / e5.FILE)
        if max(config.layers) > self.model.layers:
            raise BadInput(f"{config.encoder} has {self.model.layers} layers, the router reads {config.layers}.")

    @property
    def width(self) -> int:
        """Values a token."""
        return len(self.config.layers) * self.model.width

    def tokens(self, texts: Sequence[str]) -> list[Tokens]:
        """Each text as tokens; of a long one the first quarter of what is read and the end."""
        most, first, half = self.config.max_tokens, self.config.max_tokens // 4, MAX_CHARACTERS // 2
        rows = []
        for text in texts:
            short = text if len(text) <= MAX_CHARACTERS else f"{text[:half]} {text[-half:]}"
            ids, spans = self.model.ids(short.encode("utf-8", "replace").decode("utf-8"))  # a lone surrogate stops the tokenizer
            if (left_out := len(text) - MAX_CHARACTERS - 1) > 0:
                spans = [(a + left_out, b + left_out) if a > half else (a, b) for a, b in spans]
            if len(ids) > most:
                ids, spans = [*ids[:first], *ids[first - most :]], [*spans[:first], *spans[first - most :]]
            rows.append(Tokens(ids, spans))
        return rows

    def states(self, texts: Sequence[str]) -> list[np.ndarray]:
        """float16 tokens × width of each text."""
        return self.read(self.tokens(texts))

    def read(self, tokens: Sequence[Tokens]) -> list[np.ndarray]:
        """float16 tokens × width of each text of these tokens."""
        import torch

        ids = [t.ids for t in tokens]
        order = sorted(range(len(ids)), key=lambda n: len(ids[n]))
        rows: list[Any] = [None] * len(ids)
        with torch.inference_mode():
            for start in range(0, len(order), BATCH):
                batch = order[start : start + BATCH]
                longest = len(ids[batch[-1]])
                padded = torch.tensor([ids[n] + [1] * (longest - len(ids[n])) for n in batch])
                mask = torch.tensor([[True] * len(ids[n]) + [False] * (longest - len(ids[n])) for n in batch])
                batch_states = self.model.states(padded, mask, self.config.layers).half().numpy()
                for row, n in enumerate(batch):
                    rows[n] = batch_states[row, : len(ids[n])]
        return rows


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
            answers, tags = zip(*[member(*read) for member in self.members], strict=True)
            return _mean(answers), _mean(tags)

    def _mean(logits: Sequence[torch.Tensor]) -> torch.Tensor:
        return torch.stack(tuple(logits)).sigmoid().mean(0).logit(1e-6)

    return Together()


def build(config: RouterConfig, states: int, dropout: float = 0.0) -> Any:
    """One untrained member: float32 tokens b×n×states, bool nothing b×n, float32 before b×classes → two logits, of the questions
    (b × questions of the config) and of the tokens (b×n×spans).

    The encoder's states know their context, so one attention query a question looks at them as they are: what it asks for
    is found wherever in the request it stands. `before` marks the tools that the turn before called.
    """
    import torch
    from torch import nn
    from torch.nn.functional import scaled_dot_product_attention

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            width, count = config.width, len(config.questions)
            self.questions = count
            self.enter = nn.Sequential(nn.LayerNorm(states), nn.Linear(states, width), nn.GELU(), nn.Dropout(dropout))
            self.keys = nn.Linear(width, width)
            self.queries = nn.Parameter(torch.randn(count, width) * 0.1)
            self.before = nn.Linear(len(config.classes), width, bias=False)
            self.join = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Dropout(dropout))
            self.norm = nn.LayerNorm(width)
            self.heads = nn.Parameter(torch.randn(count, width) * 0.02)
            self.bias = nn.Parameter(torch.full((count,), -2.0))  # most tools are not asked for
            self.tags = nn.Linear(width, len(config.spans))

        def forward(self, tokens: torch.Tensor, nothing: torch.Tensor, before: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            hidden = self.enter(tokens)
            queries = _heads(self.queries.expand(len(tokens), -1, -1))
            attended = scaled_dot_product_attention(queries, _heads(self.keys(hidden)), _heads(hidden), ~nothing[:, None, None])
            answers = attended.transpose(1, 2).flatten(2) + self.before(before)[:, None]
            answers = answers + self.join(answers + self.queries)
            return (self.norm(answers) * self.heads).sum(-1) + self.bias, self.tags(hidden)

    def _heads(x: torch.Tensor) -> torch.Tensor:
        """b×n×width → b×heads×n×(width / heads)."""
        return x.unflatten(2, (config.heads, -1)).transpose(1, 2)

    return Network()


def tool_vectors(tools: Sequence[Sequence[str]], classes: Sequence[str]) -> np.ndarray:
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
