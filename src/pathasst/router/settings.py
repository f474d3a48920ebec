"""Settings of a router and of its training, and the `config.json` beside its weights. Knows no torch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pathasst.core.errors import BadInput, BadSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterConfig:
    """What a trained router is."""

    classes: tuple[str, ...]  # names of tools
    reasons: tuple[str, ...] = ()  # values of `Reason` that it tells apart where no tool is called
    choices: tuple[str, ...] = ()  # `tool.argument=value` of arguments with few values; the value of a switch is `true`
    spans: tuple[str, ...] = ()  # `tool.argument` of arguments whose values stand in the words
    encoder: str = "e5-small"  # id of the frozen sentence encoder, or its folder
    layers: tuple[int, ...] = (4, 12)  # hidden states that are read: early ones keep the spelling, late ones the sense
    width: int = 192
    heads: int = 4
    members: int = 1  # networks of runs that `join` put together, whose probabilities are averaged
    max_tokens: int = 128  # of a request; of a longer one the first quarter and the end are read
    threshold: float = 0.5  # a tool is chosen from this probability on

    def __post_init__(self) -> None:
        for name in ("classes", "reasons", "choices", "spans", "layers"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not self.classes or len(set(self.classes)) != len(self.classes):
            raise BadSettings("a router needs at least one tool, each of a different name.")
        if not self.layers or self.width % self.heads or self.members < 1 or self.max_tokens < 8 or not 0 < self.threshold < 1:
            raise BadSettings(
                "layers may not be empty, width a multiple of heads, members 1 or more, max_tokens 8 or more, "
                "threshold within 0–1."
            )

    @property
    def questions(self) -> tuple[str, ...]:
        """What the network answers with a probability each: tools, reasons, choices."""
        return (*self.classes, *self.reasons, *self.choices)

    def save(self, folder: Path) -> None:
        (folder / "config.json").write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> RouterConfig:
        """Raises BadInput when the folder has no such `config.json`."""
        try:
            return cls(**json.loads((folder / "config.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, BadSettings) as error:
            raise BadInput(f"{folder} holds no router of ours (config.json): {error}") from error


@dataclass(slots=True, kw_only=True)
class TrainSettings:
    """What `recipes/<recipe>/router.yaml` sets."""

    encoder: str = "e5-small"
    layers: tuple[int, ...] = (4, 12)
    width: int = 192
    heads: int = 4
    requests: int = 24000  # drawn from the wordings in `router/wordings`; 0: only the conversations
    conversations: int = 8000  # made from the wordings of `instruct` when no folder of conversations is given
    states: str = ""  # folder that keeps the states of the texts for further runs; empty: the run's own
    leave_out: tuple[
        str, ...
    ] = ()  # languages and hands of the wordings that are kept from training and measured on (`left_out`)
    epochs: float = 6.0
    batch: int = 64
    lr: float = 1e-3
    weight_decay: float = 0.05
    dropout: float = 0.1
    joined: float = 0.15  # share of the requests that another one is joined to, so that several tools are asked for at once
    later: float = 0.3  # share of the first requests that are shown as if some tool had been called before
    lost: float = 0.1  # share of the words that a third of the requests lose
    smoothing: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        self.layers, self.leave_out = tuple(self.layers), tuple(self.leave_out)
        shares = (self.joined, self.later, self.lost)
        if (
            self.epochs <= 0
            or self.batch < 2
            or min(self.requests, self.conversations) < 0
            or any(not 0 <= s < 1 for s in shares)
        ):
            raise BadSettings(
                "router: epochs above 0, batch 2 or more, requests and conversations 0 or more, joined, later and lost at least "
                "0 and below 1."
            )
