"""The settings of the network and of its training: dataclasses that a recipe fills. Knows no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from pathasst.core.errors import BadSettings
from pathasst.core.recipes import read_recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class P2PNetSettings:
    """The network. Stored in the checkpoint, so that loading never guesses."""

    classes: tuple[str, ...]
    backbone: str = "resnet18"  # any timm model with `features_only`; the paper: resnet50 or convnext
    channels: tuple[int, ...] = ()  # widths of a narrow ResNet's four stages; empty: the backbone's own
    strides: tuple[int, ...] = (4, 8, 16)  # levels that are used, finest first
    neck: int = 256  # channels of the feature pyramid
    hidden: int = 256  # width of the heads' MLPs
    spacing: int = 8  # px between proposals
    ignored: tuple[str, ...] = ()  # classes that are recognised but not reported, such as lymphocytes
    min_score: float | tuple[float, ...] = (
        0.5  # of a reported cell, for all classes or one for each; set from the validation split
    )
    um_per_px: float | None = None  # scale the network was trained at, if known
    views: int = 1  # 4: the picture is also read mirrored, and the four answers are averaged; four times the time

    def __post_init__(self) -> None:
        if not self.classes or len(set(self.classes)) != len(self.classes):
            raise BadSettings("classes must be a list of different names")
        if list(self.strides) != sorted(self.strides) or self.spacing < 1:
            raise BadSettings("strides must rise, spacing must be at least 1 px")
        if set(self.ignored) - set(self.classes):
            raise BadSettings(f"ignored classes {self.ignored} must be among the classes {self.classes}")
        if self.views not in (1, 2, 4):
            raise BadSettings("views must be 1, 2 or 4")
        if isinstance(self.min_score, tuple) and len(self.min_score) != len(self.classes):
            raise BadSettings("min_score must be one number, or one for each class")


@dataclass(frozen=True, slots=True, kw_only=True)
class PointData:
    """One source of labelled fields: a CSV with columns image, x, y, label; image paths are relative to the CSV."""

    points: str
    classes: dict[str, str] = field(default_factory=dict)  # label in the CSV → class of the network; unnamed labels are dropped
    scale: float = 1.0  # pictures are resized by it before anything else
    group: str = ""  # regular expression whose first group names the patient in an image's file name; empty: the image
    validation: tuple[str, ...] = ()  # groups kept for the choice of the threshold
    test: tuple[str, ...] = ()  # groups never trained on, on which the card's scores are measured


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """Training (paper, implementation details; from-scratch training needs a higher rate than the paper's 1e-4)."""

    model: P2PNetSettings
    data: tuple[PointData, ...]
    steps: int = 1500
    batch: int = 8
    crop: int = 320  # px, a multiple of 32
    lr: float = 1e-4
    weight_decay: float = 1e-4
    clip: float = 0.1
    warmup: int = 100
    ema: float = 0.99
    # Weights to start from: `efficientnet-lite0` or a safetensors file of timm's (backbone alone), or a whole P2PNet by id or
    # folder (`ki67-embedded`: fine-tuning); empty: from scratch.
    start: str = ""
    backbone_rate: float = 1.0  # factor on the backbone's learning rate; below 1 for one that starts pretrained
    no_object: float = 0.3  # weight of the background class
    point_weight: float = 5e-3  # of the squared point error, px²
    match_distance: float = 0.1  # weight of the distance in px against the class probability
    zoom: tuple[float, float] = (0.7, 1.4)  # range of the random scale
    hue: float = 0.0  # deviation of the stains' colours (unit optical densities) from their textbook directions
    seed: int = 0
    minutes: float = 0.0  # stop after so many minutes of training, the rate falling to zero by then; 0: no limit
    bf16: bool = True  # autocast, where the machine multiplies bfloat16 in hardware
    save_every: int = 200

    def __post_init__(self) -> None:
        if self.crop % 32:
            raise BadSettings("crop must be a multiple of 32 px")
        unknown = {c for d in self.data for c in d.classes.values()} - set(self.model.classes)
        if unknown:
            raise BadSettings(f"data names classes the model has not: {sorted(unknown)}")
        if not 0 < self.zoom[0] <= self.zoom[1]:
            raise BadSettings("zoom must be a range of positive numbers")

    @classmethod
    def load(cls, path: Path, root: Path | None = None) -> TrainSettings:
        """Read a YAML recipe; relative `points` paths start at `root` (default: the recipe's folder). Raises BadSettings."""
        content = read_recipe("points", str(path))
        base = root or path.parent
        model = _make(P2PNetSettings, content.pop("model", {}), path)
        data = tuple(_make(PointData, {**d, "points": str(base / d["points"])}, path) for d in content.pop("data", []))
        return _make(cls, {**content, "model": model, "data": data}, path)


def _make(kind: Any, values: dict[str, Any], path: Path) -> Any:
    known = {f.name for f in fields(kind)}
    if unknown := set(values) - known:
        raise BadSettings(f"{path}: unknown settings {sorted(unknown)}; {kind.__name__} has {sorted(known)}")
    try:
        return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
    except TypeError as error:
        raise BadSettings(f"{path}: {error}") from error


def model_settings_from(values: dict[str, Any]) -> P2PNetSettings:
    """Settings from a checkpoint's metadata (JSON lists become tuples)."""
    return _make(P2PNetSettings, values, Path("checkpoint"))  # type: ignore[no-any-return]


def as_plain(settings: Any) -> dict[str, Any]:
    """Settings as a dict that JSON and YAML can carry."""
    return asdict(settings)
