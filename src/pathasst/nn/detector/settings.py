"""Settings of a detector and of its training. Knows no torch."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import model_validator

from pathasst.core.settings import Field, Settings
from pathasst.training.settings import (
    BatchSize,
    ClipNorm,
    Ema,
    Every,
    Hold,
    LearningRate,
    Share,
    Steps,
    TrainingSettings,
    WeightDecay,
)


class SecondStageSettings(Settings):
    """How each box is judged again by its crop (`pathasst.nn.detector.second_stage`)."""

    groups: dict[str, str] = Field(
        default={}, description="Class → what the second stage calls it, where it should not tell some classes apart."
    )
    margin: float = Field(default=0.15, ge=0, description="Share of a box's width and height that is added on each side.")
    background: int = Field(
        default=20, ge=1, description="Boxes of each training picture, at most, that hit nothing: to learn what is no object."
    )
    strength: float = Field(default=3.0, gt=0, description="C of the logistic regression.")
    weight: float = Field(default=0.4, gt=0, lt=1, description="Of the second stage in the geometric mean of both scores.")
    least: float = Field(default=0.05, ge=0, le=1, description="Boxes of a lower first score are not judged again: they go.")


class DetectorSettings(Settings):
    """The network, and how a picture is brought to it. Stored beside the weights, so that loading never guesses."""

    classes: tuple[str, ...] = Field(min_length=1, description="Names, all different.")
    ignored: tuple[str, ...] = Field(
        default=(), description="Classes that are learnt, to be told from the others, but not reported."
    )
    architecture: Literal["lite0", "yolov7"] = Field(
        default="lite0", description="lite0: EfficientNet-Lite0 with RTMDet's neck and head (embedded); yolov7 (paper)."
    )
    channels: int = Field(default=64, ge=1, description="lite0: width of neck and head.")
    blocks: int = Field(default=3, ge=1, le=4, description="lite0: blocks of the backbone's stride-32 stage.")
    base: Literal["", "efficientnet-lite0"] = Field(
        default="", description="lite0: weights whose equal tensors the file leaves out; empty: it holds all."
    )
    size: int = Field(
        default=640,
        ge=32,
        multiple_of=32,
        description="px; a picture is resized to this longer side, or, with `scale`, cut into tiles of this side.",
    )
    scale: float = Field(
        default=0.0, ge=0, description="Factor on the picture as labelled; 0: the whole picture is fitted to `size`."
    )
    overlap: int = Field(default=128, ge=0, description="px between tiles; at least the largest object.")
    um_per_px: float = Field(default=0.0, ge=0, description="µm per px of the pictures as labelled; 0: unknown.")
    min_score: float = Field(
        default=0.4, ge=0, le=1, description="Least score of a reported box; training sets it from the split val."
    )
    nms: float = Field(default=0.6, ge=0, le=1, description="IoU above which the weaker of two boxes goes.")
    views: Literal[1, 2, 4] = Field(default=1, description="How many mirrored readings of a picture are fused.")
    across_classes: bool = Field(default=False, description="Whether boxes of different classes suppress each other.")
    second_stage: SecondStageSettings | None = Field(
        default=None, description="Judge each box again by its crop, by a head that is fitted after the training; empty: do not."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes must be a list of different names")
        if set(self.ignored) - set(self.classes):
            raise ValueError(f"ignored classes {self.ignored} must be among the classes {self.classes}")
        if self.base and self.architecture != "lite0":
            raise ValueError("base is for the architecture lite0 alone")
        if self.overlap >= self.size:
            raise ValueError("size must be larger than the overlap")
        if self.second_stage:
            self._check_groups(self.second_stage.groups)
        return self

    def _check_groups(self, groups: dict[str, str]) -> None:
        if unknown := set(groups) - set(self.classes):
            raise ValueError(f"second_stage.groups names {', '.join(sorted(unknown))}, which are no classes")
        if mixed := {self.groups[c] for c in self.ignored} & {self.groups[self.classes[i]] for i in self.reported}:
            raise ValueError(f"second_stage.groups puts reported and ignored classes together: {', '.join(sorted(mixed))}")

    @property
    def groups(self) -> dict[str, str]:
        """What the second stage calls each class."""
        named = self.second_stage.groups if self.second_stage else {}
        return {c: named.get(c, c) for c in self.classes}

    @property
    def reported(self) -> list[int]:
        """Ids of the classes that are reported."""
        return [i for i, name in enumerate(self.classes) if name not in self.ignored]


class DetectorData(Settings):
    """One source of labelled pictures, and which of them are for what."""

    renamed: ClassVar[dict[str, str]] = {"validation": "val"}

    boxes: str = Field(
        description="CSV (image, xmin, ymin, xmax, ymax, label, optional split), COCO JSON, or data.yaml of a YOLO folder."
    )
    images: str = Field(default="", description="Folder of the pictures; empty: that of the file.")
    classes: dict[str, str] = Field(default={}, description="Label there → class here; others count as background.")
    splits: dict[str, str] = Field(default={}, description="Value there → train, val or test; empty: as they are called.")
    group: str = Field(
        default="", description="Regular expression; its first group is the patient or slide in a file name. Empty: the picture."
    )
    val: Share = Field(default=0.0, description="Share of the training groups that chooses the best step and the threshold.")
    test: Share = Field(default=0.0, description="Share of the groups that is never trained on, where the file names no split.")
    seed: int = Field(default=0, description="Of the drawing of groups.")


class DetectorTraining(TrainingSettings):
    """Training of a detector."""

    room: ClassVar[str] = "detector"

    model: DetectorSettings
    data: tuple[DetectorData, ...] = ()
    start: str = Field(
        default="imagenet", description="imagenet (lite0), a folder or file of weights whose fitting tensors are taken, or empty."
    )
    frozen: Literal["none", "early", "convolutions", "body"] = Field(
        default="early",
        description="lite0: what stays as ImageNet left it: early (stem, two stages: halves a step's time), convolutions (and "
        "early: later norms alone learn, and with `base` alone are stored), body, or none.",
    )
    steps: Steps = 2000
    batch: BatchSize = 8
    crop: int = Field(default=320, ge=32, multiple_of=32, description="px a side of a training window.")
    lr: LearningRate = 1e-3
    hold: Hold = 0.5
    backbone_rate: float = Field(default=0.3, ge=0, description="Factor on lr for the backbone.")
    weight_decay: WeightDecay = 0.05
    ema: Ema = 0.998
    clip_norm: ClipNorm = 10.0
    zoom: tuple[float, float] = Field(default=(0.7, 1.4), description="Range of the random scale, on top of the model's own.")
    stretch: float = Field(default=0.1, ge=0, description="Largest change of the sides' ratio.")
    rare: Share = Field(
        default=0.0, description="Pictures of a class on a smaller share of them are repeated (LVIS's repeat factor); 0: never."
    )
    mosaic: Share = Field(default=0.3, description="Share of training pictures put together of four.")
    flips: bool = Field(default=True, description="Mirrored windows.")
    turns: bool = Field(default=True, description="Quarter turns.")
    colour: float = Field(default=1.0, ge=0, description="Strength of the photometric augmentation; 0: none.")
    evaluate_every: Every = 200

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not 0 < self.zoom[0] <= self.zoom[1]:
            raise ValueError("zoom must be a range of positive numbers")
        if unknown := {c for d in self.data for c in d.classes.values()} - set(self.model.classes):
            raise ValueError(f"data names classes that the model lacks: {', '.join(sorted(unknown))}")
        return self

    def rooted(self, root: Path) -> Self:
        """The same settings, relative paths of the data starting at `root`."""
        return self.replace(data=tuple(source.replace(boxes=str(root / source.boxes)) for source in self.data))
