"""Settings of a router and of its training, and the `config.json` beside its weights. Knows no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import model_validator

from pathasst.core.errors import BadInput, BadSettings
from pathasst.core.settings import Field, Settings
from pathasst.training.settings import FREE, Every, LearningRate, Precision, Steps, TrainingSettings, Warmup, WeightDecay

Share = Annotated[float, Field(ge=0, lt=1)]
Layers = Annotated[
    tuple[int, ...],
    Field(min_length=1, description="Hidden states that are read: early ones keep the spelling, late ones the sense."),
]


class RouterConfig(Settings):
    """What a trained router is."""

    classes: tuple[str, ...] = Field(min_length=1, description="Names of tools.")
    reasons: tuple[str, ...] = Field(default=(), description="Values of `Reason` that it tells apart where no tool is called.")
    choices: tuple[str, ...] = Field(
        default=(), description="`tool.argument=value` of arguments with few values; the value of a switch is `true`."
    )
    spans: tuple[str, ...] = Field(default=(), description="`tool.argument` of arguments whose values stand in the words.")
    encoder: str = Field(default="e5-small", description="Id of the frozen sentence encoder, or its folder.")
    layers: Layers = (4, 12)
    width: int = Field(default=192, ge=1)
    heads: int = Field(default=4, ge=1, description="Attention heads; width is a multiple of them.")
    members: int = Field(default=1, ge=1, description="Networks of runs that `join` put together; probabilities are averaged.")
    max_tokens: int = Field(default=128, ge=8, description="Of a request; of longer ones the first quarter and the end are read.")
    threshold: float = Field(default=0.5, gt=0, lt=1, description="A tool is chosen from this probability on.")
    also: float = Field(default=0.4, gt=0, lt=1, description="Beside one that reaches the threshold: two that are near both run.")
    lone: float = Field(
        default=0.25, gt=0, lt=1, description="The likeliest tool where none reaches the threshold, nor a reason for none `sure`."
    )
    sure: float = Field(default=0.3, gt=0, lt=1, description="A reason for no tool that holds a lone tool back.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("every tool needs a different name")
        if self.width % self.heads:
            raise ValueError("width must be a multiple of heads")
        return self

    @property
    def questions(self) -> tuple[str, ...]:
        """What the network answers with a probability each: tools, reasons, choices."""
        return (*self.classes, *self.reasons, *self.choices)

    def save(self, folder: Path) -> None:
        (folder / "config.json").write_text(json.dumps(self.plain(), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> RouterConfig:
        """Raises BadInput when the folder has no such `config.json`."""
        try:
            return cls.of(json.loads((folder / "config.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, BadSettings) as error:
            raise BadInput(f"{folder} holds no router of ours (config.json): {error}") from error


class RouterTraining(TrainingSettings):
    """What `recipes/<recipe>/router.yaml` sets."""

    room: ClassVar[str] = "router"
    free: ClassVar[frozenset[str]] = FREE | {"states", "epochs"}
    renamed: ClassVar[dict[str, str]] = {**TrainingSettings.renamed, "lost": "word_dropout"}

    steps: Steps = Field(default=0, description="Optimiser steps of the whole training. 0: as many as `epochs` asks for.")
    epochs: float = Field(default=6.0, gt=0, description="How often each request is read, where `steps` is 0.")
    batch: int = Field(default=64, ge=2, description="Requests of a step.")
    lr: LearningRate = 1e-3
    warmup: Warmup = 0.03
    weight_decay: WeightDecay = 0.05
    precision: Precision = "fp32"
    evaluate_every: Every = Field(default=0, ge=0, description="Steps between evaluations on the split val. 0: only at the end.")
    workers: int = Field(default=0, ge=0, description="Further processes that prepare the next batches. 0: none.")

    encoder: str = "e5-small"
    layers: Layers = (4, 12)
    width: int = Field(default=192, ge=1)
    heads: int = Field(default=4, ge=1)
    requests: int = Field(default=24000, ge=0, description="Drawn from `router/wordings`. 0: only the conversations.")
    conversations: int = Field(
        default=8000, ge=0, description="Made from the wordings of `instruct` when no folder of conversations is given."
    )
    start: str = Field(
        default="", description="Id or folder of an earlier router of the same shape that the training goes on from. Empty: none."
    )
    states: str = Field(default="", description="Folder that keeps the texts' states for further runs. Empty: the run's own.")
    leave_out: tuple[str, ...] = Field(
        default=(), description="Languages and hands of the wordings that are measured on (`left_out`) and not trained on."
    )
    dropout: Share = 0.1
    joined: Share = Field(default=0.15, description="Share of requests that another is joined to: several tools at once.")
    later: Share = Field(default=0.3, description="Share of first requests that look as if a tool had been called before.")
    word_dropout: Share = Field(default=0.1, description="Share of the words that a third of the requests lose.")
    smoothing: Share = 0.01
    wordings_seed: int = Field(default=0, description="Seed of what is drawn from the wordings.")
