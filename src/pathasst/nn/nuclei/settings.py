"""The settings of the nuclei network and of its training. Knows no torch."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

from pydantic import model_validator

from pathasst.core.settings import Field, Settings
from pathasst.training.settings import BatchSize, Ema, Every, LearningRate, Steps, TrainingSettings, WeightDecay


class NucleiSettings(Settings):
    """The network, and how nuclei are made of its maps. Stored in the checkpoint, so that loading never guesses."""

    widths: tuple[int, int, int, int] = Field(
        default=(32, 48, 64, 64), description="Decoder channels at the strides 2, 4, 8, 16."
    )
    um_per_px: float = Field(default=0.35, gt=0, description="µm per px that the network works at.")
    nucleus: float = Field(
        default=28.0, gt=0, description="Median area of a nucleus, µm², that pictures of unknown scale are brought to."
    )
    min_foreground: float = Field(default=0.5, gt=0, lt=1, description="Probability from which a pixel is of a nucleus.")
    min_centre: float = Field(
        default=0.25, gt=0, lt=1, description="Height from which a peak of the smoothed centre map is a nucleus."
    )
    min_area: float = Field(default=4.0, ge=0, description="Smallest nucleus, µm².")


class NucleiData(Settings):
    """One source of outlined nuclei: a folder with `images` and `masks`, or a COCO JSON with segmentation."""

    source: str
    um_per_px: float | None = Field(
        default=None, gt=0, description="µm per px; unknown: each picture is brought to the median nucleus of the model."
    )
    group: str = Field(
        default="", description="Regular expression; its first group is the patient in a file name. Empty: the picture."
    )
    weight: float = Field(default=1.0, gt=0, description="Share of the training crops, against the other sources.")
    val: float = Field(default=0.0, ge=0, le=1, description="Share of the groups that the thresholds are chosen on.")
    test: float = Field(
        default=0.0, ge=0, le=1, description="Share of the groups that scores are measured on; 1: an unseen source."
    )


class NucleiTraining(TrainingSettings):
    """Training on random crops."""

    room: ClassVar[str] = "nuclei"

    model: NucleiSettings = NucleiSettings()
    data: tuple[NucleiData, ...]
    steps: Steps = 600
    batch: BatchSize = 12
    lr: LearningRate = 2e-3
    weight_decay: WeightDecay = 1e-3
    ema: Ema = 0.99
    evaluate_every: Every = Field(
        default=0,
        description="Steps between measurements of PQ on the split val, which choose the weights. 0: the last ones are kept.",
    )
    crop: int = Field(default=160, ge=32, multiple_of=16, description="px a side of a training window.")
    start: str = Field(
        default="efficientnet-lite0", description="`efficientnet-lite0`, a nuclei model by id or folder, or empty."
    )
    backbone_rate: float = Field(default=0.4, ge=0, description="Factor on lr for the pretrained backbone.")
    frozen: int = Field(default=2, ge=0, le=5, description="First stages of the backbone that keep their weights.")
    zoom: tuple[float, float] = Field(default=(0.75, 1.4), description="Range of the random scale.")
    hue: float = Field(default=0.08, ge=0, description="Deviation of the stains' colours (unit optical densities).")
    pale: float = Field(default=0.15, ge=0, le=1, description="Share of the crops whose eosin is nearly removed.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not 0 < self.zoom[0] <= self.zoom[1]:
            raise ValueError("zoom must be a range of positive numbers")
        return self

    def rooted(self, root: Path) -> Self:
        """The same settings, relative paths of the data starting at `root`."""
        return self.replace(data=tuple(one.replace(source=str(root / one.source)) for one in self.data))
