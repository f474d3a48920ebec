"""A trained chooser: requests in, tools out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pathasst import weights
from pathasst.chooser.items import plain
from pathasst.chooser.network import BATCH, Encoder, build, called, padded
from pathasst.chooser.settings import ChooserConfig
from pathasst.errors import BadInput

WEIGHTS = "model.safetensors"
SURE, POSSIBLE = (
    0.9,
    0.02,
)  # least probability of a clause's tool, in the clause and in the whole request (chosen on the split val)
_CLAUSE = re.compile(r"[.;?!:]\s+|,\s+|\s+(?:and|then|plus|also|as well as|besides|&|\+)\s+", re.IGNORECASE)


class Chooser:
    """Made once, asked often; safe to ask from several threads.

    >>> Chooser.load("chooser-embedded").choose("How many platelets are there?")
    ['blood_cells']
    >>> Chooser.load("chooser-embedded").choose("And this field?", before=["ki67_cells"])
    ['ki67_cells']
    """

    def __init__(self, network: Any, encoder: Encoder, version: str = "") -> None:
        self.network, self.encoder, self.version = network.eval(), encoder, version
        self.config = encoder.config

    @classmethod
    def load(cls, source: str | Path = "chooser-embedded") -> Chooser:
        """`source`: an id of the registry of weights, or a folder that `train` wrote. Raises MissingWeights or BadInput."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        folder = Path(source) if Path(source).is_dir() else weights.path(str(source))
        config = ChooserConfig.load(folder)
        encoder = Encoder(config)
        network = build(config, encoder.width)
        try:
            network.load_state_dict({k: v.float() for k, v in load_file(folder / WEIGHTS).items()})
        except (SafetensorError, OSError, RuntimeError) as error:
            raise BadInput(f"{folder / WEIGHTS} does not fit its config.json: {str(error)[:300]}") from error
        return cls(network, encoder, weights.version(str(source)))

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the tools it knows."""
        return self.config.classes

    def probabilities(self, requests: Sequence[str], before: Sequence[Sequence[str]] | None = None) -> np.ndarray:
        """How likely each request asks for each tool: float32 [n, tools]. An empty request asks for none.

        `before`: the tools that the turn before each request called.
        """
        found = np.zeros((len(requests), len(self.classes)), np.float32)
        said = [n for n, r in enumerate(requests) if plain(r)]
        if said:
            earlier = called([before[n] if before else () for n in said], self.classes)
            found[said] = scores(self.network, self.encoder.states([plain(requests[n]) for n in said]), earlier)
        return found

    def choose(self, request: str, before: Sequence[str] = ()) -> list[str]:
        """The tools that a request asks for, the likeliest first; empty when it asks for none.

        `before`: the tools that the turn before called, for "again" or "any papers on it?". Of a request that asks for something,
        each clause is also read alone: the second wish of a sentence is easily overheard.
        """
        clauses = [c for c in _CLAUSE.split(plain(request)) if len(c.split()) > 1]
        clauses = clauses if len(clauses) > 1 else []
        rows = self.probabilities([request, *clauses], [before, *[()] * len(clauses)])
        row, alone = rows[0], rows[1:].max(0, initial=0.0)
        asked = row >= self.config.threshold
        if asked.any():
            asked |= (alone >= SURE) & (row >= POSSIBLE)
        return [self.classes[n] for n in np.argsort(-row) if asked[n]]


def scores(network: Any, states: Sequence[np.ndarray], before: np.ndarray) -> np.ndarray:
    """The network's probabilities for texts of these states, and of the tools called `before`: float32 [n, tools]."""
    import torch

    order = sorted(range(len(states)), key=lambda n: len(states[n]))
    found = np.zeros((len(states), len(network.bias)), np.float32)
    with torch.inference_mode():
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            found[chosen] = network(*padded([states[n] for n in chosen]), torch.from_numpy(before[chosen])).sigmoid().numpy()
    return found
