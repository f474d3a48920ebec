"""Settings of a classifier and of its training, and the `config.json` beside its weights. Knows no torch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from pathasst.core.errors import BadInput, BadSettings
from pathasst.core.recipes import read_recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifierConfig:
    """What a trained classifier is; stored as `config.json` beside `model.safetensors`, so that loading never guesses."""

    classes: tuple[str, ...]
    backbone: str = "tf_efficientnet_lite0"  # any name timm knows
    size: int = 224  # px; pictures are squashed to size×size, as the paper's classifiers do
    options: dict[str, Any] = field(default_factory=dict)  # further arguments of timm.create_model, such as narrower widths
    temperature: float = 1.0  # fitted on the validation split; logits are divided by it
    base: str = ""  # id of the weights whose tensors the file leaves out, since training did not change them; "": holds all

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))
        if len(self.classes) < 2 or len(set(self.classes)) != len(self.classes):
            raise BadSettings("a classifier needs at least two different classes")
        if self.size < 32 or self.temperature <= 0:
            raise BadSettings("size must be at least 32 px and the temperature positive")

    def save(self, folder: Path) -> None:
        (folder / "config.json").write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> ClassifierConfig:
        """Raises BadInput when the folder has no such `config.json`."""
        try:
            return cls(**json.loads((folder / "config.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, BadSettings) as error:
            raise BadInput(f"{folder} holds no classifier of ours (config.json): {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One source of labelled pictures in a recipe: a folder of folders, or a CSV or Parquet table (`items.read_items`)."""

    path: str
    name: str = ""  # of the data set
    group: str = ""  # the table's column that names patient, slide or original
    margin: float = 0.0  # share of a box's width and height that is added on each side
    classes: dict[str, str] = field(default_factory=dict)  # label in the table → class
    train: tuple[str, ...] = ()  # groups of each split; the others are drawn
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("train", "validation", "test"):
            object.__setattr__(self, name, tuple(str(v) for v in getattr(self, name)))


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """How a classifier is trained. The defaults fine-tune EfficientNet-Lite0 on a CPU core in ten minutes."""

    classes: tuple[str, ...] = ()  # in the order of the outputs; empty: the labels, sorted
    backbone: str = "tf_efficientnet_lite0"
    size: int = 224
    options: dict[str, Any] = field(default_factory=dict)
    start: str = "efficientnet-lite0"  # that id (ImageNet), a checkpoint file of the same backbone, or empty: from scratch
    freeze: tuple[str, ...] = ()  # parts of the backbone that stay as they are (prefixes): the early ones cost most to train
    probe: int = 2  # first fit the head on the frozen features of so many random views of each picture; 0: start it at random
    norms: bool = False  # whether batch norms go on learning; few pictures teach them worse than ImageNet did
    steps: int = 1000  # 0: the head alone, as `probe` fits it
    minutes: float = 10.0  # stop after so many minutes of training, the rate falling to zero by then; 0: no limit
    batch: int = 32
    lr: float = 1e-3  # of the head
    backbone_rate: float = 0.3  # factor on it for the backbone; 1 when nothing is pretrained
    weight_decay: float = 0.02
    warmup: float = 0.05  # share of the training
    smoothing: float = 0.05  # of the labels
    ema: float = 0.99
    balance: float = 0.7  # 0: every picture alike; 1: every class of a source alike
    validation: float = 0.15  # share of the groups that chooses the weights and the temperature
    test: float = 0.2  # share of the groups never trained on
    evaluations: int = 8  # how often the validation split is looked at
    turns: bool = True  # all rotations; False for pictures with an up and a down
    zoom: float = 0.15  # pictures are scaled by a factor in 1 ± zoom, and moved as much
    colour: float = 0.15  # strength of the random change of stain, brightness and white
    seed: int = 0
    bf16: bool = True  # where the CPU multiplies it in hardware; else float32

    def __post_init__(self) -> None:
        for name in ("classes", "freeze"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not 0 < self.validation < 1 or not 0 <= self.test < 1 or self.validation + self.test >= 1:
            raise BadSettings("validation and test are shares of the groups that leave something to train on")
        if self.steps < 0 or self.batch < 2 or self.evaluations < 1:
            raise BadSettings("steps must be at least 0, evaluations at least 1, batch at least 2")
        if not self.steps and not (self.probe and self.start):
            raise BadSettings("without steps, the head must be fitted to a pretrained backbone: set probe and start")

    def config(self, classes: tuple[str, ...]) -> ClassifierConfig:
        """The configuration of the classifier that this training makes."""
        base = self.start if self.start == "efficientnet-lite0" else ""
        return ClassifierConfig(classes=classes, backbone=self.backbone, size=self.size, options=self.options, base=base)

    @classmethod
    def load(cls, recipe: str, root: Path | None = None) -> tuple[TrainSettings, list[Source]]:
        """A recipe's settings and its sources, whose relative paths start at `root`. Raises BadSettings."""
        values = read_recipe("classifier", recipe)
        sources = [_make(Source, dict(v)) for v in values.pop("data", [])]
        sources = [replace(s, path=str((root or Path.cwd()) / s.path)) for s in sources]
        return _make(cls, values), sources


def _make(kind: Any, values: dict[str, Any]) -> Any:
    known = {f.name for f in fields(kind)}
    if unknown := sorted(set(values) - known):
        raise BadSettings(f"unknown settings {', '.join(unknown)}; {kind.__name__} has {', '.join(sorted(known))}")
    try:
        return kind(**values)
    except TypeError as error:
        raise BadSettings(f"{kind.__name__}: {error}") from error
