"""Settings of a classifier and of its training, and the `config.json` beside its weights. Knows no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import field_validator, model_validator

from pathasst.core.errors import BadInput, BadSettings
from pathasst.core.settings import Field, Settings
from pathasst.training.settings import BatchSize, Ema, Every, LearningRate, Minutes, Share, Steps, TrainingSettings, WeightDecay


class ClassifierConfig(Settings):
    """What a trained classifier is; stored as `config.json` beside `model.safetensors`, so that loading never guesses."""

    classes: tuple[str, ...] = Field(min_length=2, description="Names, in the order of the outputs.")
    backbone: str = Field(default="tf_efficientnet_lite0", description="Any name that timm knows.")
    size: int = Field(default=224, ge=32, description="px; pictures are squashed to size×size, as the paper's classifiers do.")
    options: dict[str, Any] = Field(default={}, description="Further arguments of timm.create_model, such as narrower widths.")
    temperature: float = Field(default=1.0, gt=0, description="Logits are divided by it; fitted on the split val.")
    base: str = Field(default="", description="Id of weights whose equal tensors the file leaves out; empty: the file holds all.")

    @field_validator("classes")
    @classmethod
    def _different(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(classes)) != len(classes):
            raise ValueError("the classes must have different names")
        return classes

    def save(self, folder: Path) -> None:
        (folder / "config.json").write_text(json.dumps(self.plain(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load_from(cls, folder: Path) -> Self:
        """Raises BadInput when the folder has no such `config.json`."""
        try:
            return cls.of(json.loads((folder / "config.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, BadSettings) as error:
            raise BadInput(f"{folder} holds no classifier of ours (config.json): {error}") from error


class PictureSource(Settings):
    """One source of labelled pictures in a recipe: a folder of folders, or a CSV or Parquet table (`items.read_items`)."""

    renamed: ClassVar[dict[str, str]] = {"validation": "val"}

    path: str
    name: str = Field(default="", description="Name of the data set.")
    group: str = Field(default="", description="The table's column that names patient, slide or original.")
    margin: float = Field(default=0.0, ge=0, description="Share of a box's width and height that is added on each side.")
    classes: dict[str, str] = Field(default={}, description="Label in the table → class.")
    train: tuple[str, ...] = Field(default=(), description="Groups of the split train; groups that no split names are drawn.")
    val: tuple[str, ...] = Field(default=(), description="Groups of the split val.")
    test: tuple[str, ...] = Field(default=(), description="Groups of the split test.")


class ClassifierTraining(TrainingSettings):
    """How a classifier is trained. The defaults fine-tune EfficientNet-Lite0 on a CPU core in ten minutes."""

    room: ClassVar[str] = "classifier"
    renamed: ClassVar[dict[str, str]] = {**TrainingSettings.renamed, "validation": "val"}

    data: tuple[PictureSource, ...] = Field(default=(), description="Sources of labelled pictures.")
    classes: tuple[str, ...] = Field(default=(), description="In the order of the outputs; empty: the labels, sorted.")
    backbone: str = Field(default="tf_efficientnet_lite0", description="Any name that timm knows.")
    size: int = Field(default=224, ge=32, description="px a side of the network's input.")
    options: dict[str, Any] = Field(default={}, description="Further arguments of timm.create_model.")
    start: str = Field(
        default="efficientnet-lite0",
        description="That id (ImageNet), a checkpoint file of the same backbone, or empty: from scratch.",
    )
    freeze: tuple[str, ...] = Field(
        default=(), description="Prefixes of parts of the backbone that stay as they are; the early ones cost most to train."
    )
    probe: int = Field(
        default=2,
        ge=0,
        description="Fit the head first, on features of so many random views of each picture; 0: start it at random.",
    )
    norms: bool = Field(
        default=False, description="Whether batch norms keep learning; few pictures teach them worse than ImageNet did."
    )
    steps: Steps = 1000
    minutes: Minutes = 10.0
    batch: BatchSize = 32
    lr: LearningRate = 1e-3
    backbone_rate: float = Field(default=0.3, ge=0, description="Factor on lr for the backbone; 1 when nothing is pretrained.")
    weight_decay: WeightDecay = 0.02
    smoothing: Share = Field(default=0.05, description="Smoothing of the labels.")
    ema: Ema = 0.99
    balance: Share = Field(default=0.7, description="0: every picture alike; 1: every class of a source alike.")
    val: float = Field(default=0.15, gt=0, lt=1, description="Share of the groups that chooses the weights and the temperature.")
    test: float = Field(default=0.2, ge=0, lt=1, description="Share of the groups that is never trained on.")
    evaluate_every: Every = 125
    turns: bool = Field(default=True, description="All rotations; false for pictures with an up and a down.")
    zoom: float = Field(default=0.15, ge=0, description="Pictures are scaled by a factor in 1 ± zoom, and moved as much.")
    colour: float = Field(default=0.15, ge=0, description="Strength of the random change of stain, brightness and white.")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.val + self.test >= 1:
            raise ValueError("val and test are shares of the groups that leave something to train on")
        if not self.steps and not (self.probe and self.start):
            raise ValueError("without steps, the head must be fitted to a pretrained backbone: set probe and start")
        return self

    def config(self, classes: tuple[str, ...]) -> ClassifierConfig:
        """The configuration of the classifier that this training makes."""
        base = self.start if self.start == "efficientnet-lite0" else ""
        return ClassifierConfig(classes=classes, backbone=self.backbone, size=self.size, options=self.options, base=base)

    def rooted(self, root: Path) -> Self:
        """The same settings, relative paths of the data starting at `root`."""
        return self.replace(data=tuple(source.replace(path=str(root / source.path)) for source in self.data))
