"""Settings of `pathasst train clip`, read from `recipes/<recipe>/clip.yaml`. Knows no torch and no data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import model_validator

from pathasst.core.settings import Field, Settings
from pathasst.training.settings import FREE, BatchSize, Share, TrainingSettings, WeightDecay

if TYPE_CHECKING:
    from pathasst.clip.build import ClipConfig


class DistillSettings(Settings):
    """Distillation from EfficientNet-Lite0; with no steps and weight 0 there is none."""

    steps: int = Field(default=0, ge=0, description="First steps of the training that only distil.")
    weight: float = Field(default=0.0, ge=0, description="Of the distillation beside the contrastive loss in the later steps.")
    views: int = Field(default=3, ge=1, description="Crops of each picture that pass the teacher.")
    smallest: float = Field(default=0.4, gt=0, le=1, description="Smallest crop, as a share of the side.")
    dims: int = Field(default=256, ge=1, description="Principal components of the teacher's 1280 features.")
    balance: Share = Field(default=0.6, description="In the first steps, classes are drawn as (their size)^balance.")
    data: tuple[str, ...] = Field(default=(), description="Further datasets of Pair, whose captions are not used.")

    @property
    def used(self) -> bool:
        """Whether anything is distilled."""
        return bool(self.steps or self.weight)


class ClipTraining(TrainingSettings):
    """How a PathCLIP is trained."""

    room: ClassVar[str] = "clip"
    renamed: ClassVar[dict[str, str]] = {**TrainingSettings.renamed, "init": "start", "teach": "distill", "watch": "tasks"}
    free: ClassVar[frozenset[str]] = FREE | {"threads", "features"}

    model: dict[str, Any] = Field(
        description="OpenCLIP's model_cfg, or {name: ViT-B-16, activation: quick_gelu} for an architecture that it knows by name."
    )
    start: str = Field(default="", description="Id or path of a PathCLIP to start from; empty: fresh weights.")
    tower: Literal["", "efficientnet-lite0"] = Field(
        default="", description="Weights that a timm vision tower starts from; empty: fresh ones."
    )
    unlocked: int = Field(
        default=-1, ge=-1, description="Groups of layers of a timm tower that are trained, from the last. -1: all; 0: none (LiT)."
    )
    views: int = Field(default=4, ge=1, description="Of a locked tower: augmented crops of each picture, embedded once.")
    features: str = Field(
        default="", description="File of a locked tower's features, to be shared by runs; empty: in the run's folder."
    )
    loss: Literal["softmax", "sigmoid"] = Field(
        default="softmax",
        description="softmax: CLIP's loss over the batch; sigmoid: SigLIP's, each picture and caption by itself.",
    )
    data: tuple[str, ...] = Field(default=(), description="Datasets of Pair.")
    shares: tuple[float, ...] = Field(
        default=(),
        description="Of each of `data`, the share of a batch that is drawn from it, in any unit; empty: by their sizes.",
    )
    splits: tuple[str, ...] = Field(default=("train",), description="Their splits that are trained on.")
    leave_out: tuple[str, ...] = Field(default=(), description="Sources that are not trained on.")
    batch: BatchSize = 128
    weight_decay: WeightDecay = 0.1
    cache_side: int = Field(default=256, ge=1, description="px a side of the pictures, which are decoded once.")
    smallest: float = Field(default=0.6, gt=0, le=1, description="Smallest crop, as a share of the side.")
    stain: float = Field(default=0.25, ge=0, description="Strength of the stain augmentation.")
    keep_patches: float = Field(
        default=1.0, gt=0, le=1, description="Share of the patches in a step (FLIP); the last tenth of the steps has all."
    )
    balance: Share = Field(default=0.4, description="Classes are drawn as (their size)^balance.")
    distill: DistillSettings = DistillSettings()
    anchors: bool = Field(
        default=True, description="Add a caption of every concept to each batch, as further negatives and positives."
    )
    tasks: str = Field(
        default="", description="Recipe of zero-shot tasks that are evaluated, with retrieval, on the split val; empty: none."
    )
    best: str = Field(
        default="", description="Score of the evaluation that chooses the weights, or `mean` of all; empty: the last are kept."
    )
    threads: int = Field(default=0, ge=0, description="CPU threads of the model; 0: all cores. On a shared machine 1 is faster.")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.batch < 2:
            raise ValueError("batch: a contrastive batch has two pairs or more")
        if self.timm and self.distill.used:
            raise ValueError("distill: only a ViT can be a student")
        if (self.tower or self.unlocked >= 0) and not self.timm:
            raise ValueError("tower and unlocked are for a timm tower (vision_cfg: timm_model_name)")
        if self.unlocked == 0 and not self.tower and not self.start:
            raise ValueError("a locked tower needs weights: tower")
        if self.shares and (len(self.shares) != len(self.data) or min(self.shares) <= 0):
            raise ValueError("shares: one number above 0 for each of `data`")
        if self.best and not self.tasks:
            raise ValueError("best names a score of the evaluation: set tasks, too")
        return self

    @property
    def timm(self) -> str:
        """Name of the timm tower; empty for a ViT of OpenCLIP's own."""
        return str(self.model.get("vision_cfg", {}).get("timm_model_name") or "")

    def config(self) -> ClipConfig:
        """The architecture. Raises BadSettings for a name that OpenCLIP does not know."""
        from pathasst.clip.build import ClipConfig
        from pathasst.nn.pretrained import MEAN, STD

        if "name" in self.model:
            config = ClipConfig.of_name(self.model["name"], self.model.get("activation", "quick_gelu"))
        else:
            config = ClipConfig(self.model, MEAN, STD) if self.timm else ClipConfig(self.model)
        return config.with_bias() if self.loss == "sigmoid" else config
