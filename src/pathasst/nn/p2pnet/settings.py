"""The settings of the network and of its training. Knows no torch."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import model_validator

from pathasst.core.settings import Field, Settings
from pathasst.training.settings import BatchSize, ClipNorm, Ema, Every, LearningRate, Steps, TrainingSettings, WeightDecay


class P2PNetSettings(Settings):
    """The network. Stored in the checkpoint, so that loading never guesses."""

    classes: tuple[str, ...] = Field(min_length=1, description="Names, all different.")
    backbone: str = Field(default="resnet18", description="Any timm model with `features_only`; the paper: resnet50 or convnext.")
    channels: tuple[int, ...] = Field(default=(), description="Widths of a narrow ResNet's four stages; empty: its own.")
    strides: tuple[int, ...] = Field(default=(4, 8, 16), description="Levels of the backbone that are used, finest first.")
    neck: int = Field(default=256, ge=1, description="Channels of the feature pyramid.")
    hidden: int = Field(default=256, ge=1, description="Width of the heads' MLPs.")
    spacing: int = Field(default=8, ge=1, description="px between proposals.")
    ignored: tuple[str, ...] = Field(default=(), description="Classes that are recognised but not reported, such as lymphocytes.")
    min_score: float | tuple[float, ...] = Field(
        default=0.5, description="Least score of a reported cell, for all classes or for each; set from the split val."
    )
    um_per_px: float | None = Field(default=None, description="µm per px that the network was trained at, if known.")
    views: Literal[1, 2, 4] = Field(
        default=1, description="How many mirrored readings of a picture are averaged; the time grows with them."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes must be a list of different names")
        if list(self.strides) != sorted(self.strides):
            raise ValueError("strides must rise")
        if set(self.ignored) - set(self.classes):
            raise ValueError(f"ignored classes {self.ignored} must be among the classes {self.classes}")
        if isinstance(self.min_score, tuple) and len(self.min_score) != len(self.classes):
            raise ValueError("min_score must be one number, or one for each class")
        return self


class PointData(Settings):
    """One source of labelled fields: a CSV with columns image, x, y, label; image paths are relative to the CSV."""

    renamed: ClassVar[dict[str, str]] = {"validation": "val"}

    points: str
    classes: dict[str, str] = Field(
        default={}, description="Label in the CSV → class of the network; labels without a class are dropped."
    )
    scale: float = Field(default=1.0, gt=0, description="Pictures are resized by it before anything else.")
    group: str = Field(
        default="", description="Regular expression; its first group is the patient in a file name. Empty: the picture."
    )
    val: tuple[str, ...] = Field(default=(), description="Groups that the thresholds are chosen on.")
    test: tuple[str, ...] = Field(default=(), description="Groups never trained on, on which the card's scores are measured.")


class PointTraining(TrainingSettings):
    """Training (paper, implementation details; from-scratch training needs a higher rate than the paper's 1e-4)."""

    room: ClassVar[str] = "points"

    model: P2PNetSettings
    data: tuple[PointData, ...]
    steps: Steps = 1500
    batch: BatchSize = 8
    crop: int = Field(default=320, ge=32, multiple_of=32, description="px a side of a training window.")
    lr: LearningRate = 1e-4
    weight_decay: WeightDecay = 1e-4
    clip_norm: ClipNorm = 0.1
    ema: Ema = 0.99
    evaluate_every: Every = Field(
        default=0,
        description="Steps between measurements of F1 on the split val, which choose the weights. 0: the last ones are kept.",
    )
    start: str = Field(
        default="",
        description="Weights to start from: `efficientnet-lite0` or timm's safetensors (backbone alone), or a whole P2PNet by id "
        "or folder (fine-tuning); empty: from scratch.",
    )
    backbone_rate: float = Field(default=1.0, ge=0, description="Factor on lr for the backbone; below 1 for a pretrained one.")
    no_object: float = Field(default=0.3, gt=0, description="Weight of the background class.")
    point_weight: float = Field(default=5e-3, ge=0, description="Weight of the squared point error, px².")
    match_distance: float = Field(default=0.1, ge=0, description="Weight of the distance in px against the class probability.")
    zoom: tuple[float, float] = Field(default=(0.7, 1.4), description="Range of the random scale.")
    hue: float = Field(default=0.0, ge=0, description="Deviation of the stains' colours (unit optical densities).")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if unknown := {c for d in self.data for c in d.classes.values()} - set(self.model.classes):
            raise ValueError(f"data names classes that the model lacks: {', '.join(sorted(unknown))}")
        if not 0 < self.zoom[0] <= self.zoom[1]:
            raise ValueError("zoom must be a range of positive numbers")
        return self

    def rooted(self, root: Path) -> Self:
        """The same settings, relative paths of the data starting at `root`."""
        return self.replace(data=tuple(source.replace(points=str(root / source.points)) for source in self.data))
