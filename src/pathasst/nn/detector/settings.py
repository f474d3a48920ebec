"""Settings of a detector and of its training: dataclasses that a recipe fills. Knows no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from pathasst.core.errors import BadSettings
from pathasst.core.recipes import read_recipe

ARCHITECTURES = ("lite0", "yolov7")
FROZEN = ("none", "early", "convolutions", "body")


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorSettings:
    """The network, and how a picture is brought to it. Stored beside the weights, so that loading never guesses."""

    classes: tuple[str, ...]
    ignored: tuple[str, ...] = ()  # classes that are learnt, to be told from the others, but not reported
    architecture: str = "lite0"  # lite0: EfficientNet-Lite0 with RTMDet's neck and head (embedded); yolov7 (paper)
    channels: int = 64  # lite0: width of neck and head
    blocks: int = 3  # lite0: blocks kept of the backbone's stride-32 stage, 1–4
    base: str = ""  # lite0: weights whose equal tensors the file leaves out: `efficientnet-lite0`; empty: it holds all
    size: int = 640  # px; a picture is resized to this longer side, or, with `scale`, cut into tiles of this side
    scale: float = 0.0  # factor on the picture as labelled; 0: the whole picture is fitted to `size`
    overlap: int = 128  # px between tiles; at least the largest object
    um_per_px: float = 0.0  # scale of the pictures as labelled, if known
    min_score: float = 0.4  # least score of a reported box; training sets it from the validation split
    nms: float = 0.6  # IoU above which the weaker of two boxes goes
    views: int = 1  # how many mirrored readings of a picture are fused: 1, 2 or 4
    across_classes: bool = False  # whether boxes of different classes suppress each other

    def __post_init__(self) -> None:
        if not self.classes or len(set(self.classes)) != len(self.classes):
            raise BadSettings("classes must be a list of different names")
        if set(self.ignored) - set(self.classes):
            raise BadSettings(f"ignored classes {self.ignored} must be among the classes {self.classes}")
        if self.architecture not in ARCHITECTURES:
            raise BadSettings(f"architecture must be one of {', '.join(ARCHITECTURES)}, not {self.architecture!r}")
        if self.base and (self.base, self.architecture) != ("efficientnet-lite0", "lite0"):
            raise BadSettings("base can be efficientnet-lite0, for the architecture lite0 alone")
        if not 1 <= self.blocks <= 4 or self.views not in (1, 2, 4):
            raise BadSettings("blocks must be 1 to 4, views 1, 2 or 4")
        if self.size % 32 or not 0 <= self.overlap < self.size:
            raise BadSettings("size must be a multiple of 32 px and larger than the overlap")

    @property
    def reported(self) -> list[int]:
        """Ids of the classes that are reported."""
        return [i for i, name in enumerate(self.classes) if name not in self.ignored]


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorData:
    """One source of labelled pictures, and which of them are for what."""

    boxes: str  # CSV (image, xmin, ymin, xmax, ymax, label, optional split), COCO JSON, or data.yaml of a YOLO folder
    images: str = ""  # folder of the pictures; empty: that of the file
    classes: dict[str, str] = field(default_factory=dict)  # label there → class here; others count as background
    splits: dict[str, str] = field(default_factory=dict)  # value there → train | validation | test; empty: as they are called
    group: str = ""  # regular expression whose first group names the patient or slide in a file name; empty: the picture
    validation: float = 0.0  # share of the training groups that chooses the best step and the threshold
    test: float = 0.0  # share of the groups kept for measuring, where the file names no split
    seed: int = 0  # of the drawing of groups


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """Training of a detector."""

    model: DetectorSettings
    data: tuple[DetectorData, ...] = ()
    start: str = "imagenet"  # imagenet (lite0), a folder or file of weights whose fitting tensors are taken, or empty
    frozen: str = "early"  # lite0: what stays as ImageNet taught it: early (stem, two stages: halves a step's time),
    # convolutions (and early: later norms alone learn, and with `base` alone are stored), body, or none
    steps: int = 2000
    minutes: float = 0.0  # stop after so many minutes of the process's CPU time, the rate falling to its end by then; 0: no limit
    batch: int = 8
    crop: int = 320  # px, a multiple of 32
    lr: float = 1e-3
    backbone_rate: float = 0.3  # the backbone's share of lr
    weight_decay: float = 0.05
    warmup: int = 100  # steps
    ema: float = 0.998
    clip: float = 10.0  # norm of the gradient
    zoom: tuple[float, float] = (0.7, 1.4)  # range of the random scale, on top of the model's own
    stretch: float = 0.1  # largest change of the sides' ratio
    rare: float = 0.0  # a class on a smaller share of the pictures has its pictures repeated (LVIS's repeat factor); 0: never
    mosaic: float = 0.3  # share of training pictures put together of four
    flips: bool = True
    turns: bool = True  # quarter turns
    colour: float = 1.0  # strength of the photometric augmentation, 0 for none
    seed: int = 0
    bf16: bool = True  # where the machine multiplies it in hardware; else float32
    evaluate_every: int = 200  # steps between measurements on the validation split
    save_every: int = 100

    def __post_init__(self) -> None:
        if self.crop % 32:
            raise BadSettings("crop must be a multiple of 32 px")
        if not 0 < self.zoom[0] <= self.zoom[1]:
            raise BadSettings("zoom must be a range of positive numbers")
        if self.frozen not in FROZEN:
            raise BadSettings(f"frozen must be one of {', '.join(FROZEN)}, not {self.frozen!r}")
        unknown = {c for d in self.data for c in d.classes.values()} - set(self.model.classes)
        if unknown:
            raise BadSettings(f"data names classes the model has not: {sorted(unknown)}")

    @classmethod
    def load(cls, recipe: str, root: Path | None = None, room: str = "detector") -> TrainSettings:
        """Read a YAML recipe; relative paths of data start at `root` (default: the recipe's folder). Raises BadSettings."""
        content = read_recipe(room, recipe)
        base = root or Path(recipe).parent
        model = make(DetectorSettings, content.pop("model", {}), recipe)
        data = tuple(make(DetectorData, {**d, "boxes": str(base / d["boxes"])}, recipe) for d in content.pop("data", []))
        return make(cls, {**content, "model": model, "data": data}, recipe)  # type: ignore[no-any-return]


def make(kind: Any, values: dict[str, Any], where: str) -> Any:
    """A settings dataclass from plain values (lists become tuples). Raises BadSettings that names unknown settings."""
    known = {f.name for f in fields(kind)}
    if unknown := set(values) - known:
        raise BadSettings(f"{where}: unknown settings {sorted(unknown)}; {kind.__name__} has {sorted(known)}")
    try:
        return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
    except TypeError as error:
        raise BadSettings(f"{where}: {error}") from error


def as_plain(settings: Any) -> dict[str, Any]:
    """Settings as a dict that JSON and YAML can carry."""
    return asdict(settings)
