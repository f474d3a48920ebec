"""Training the select model on labelled pictures: `pathasst train select`.

Input is a folder of folders (`pathology/…`, `other/…`) or a CSV with the columns image, label and, where copies of one
original exist, group; the split never cuts through a group. Both classes pass through the same augmentation, frames, letters,
JPEG and montage included, so that none of these can become the answer.
"""

from __future__ import annotations

import csv
import hashlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pathasst.curate.augment import Augment
from pathasst.curate.metrics import f1_score, interval
from pathasst.curate.select import SelectConfig, Selector, build, to_tensor
from pathasst.errors import BadSettings

if TYPE_CHECKING:
    import numpy as np
    import torch

POSITIVE = ("pathology", "1", "true", "yes")
NEGATIVE = ("other", "0", "false", "no", "non-pathology")


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled picture."""

    image: Path
    label: int  # 1 pathology, 0 other
    group: str  # pictures that must stay on one side of the split
    source: str = ""  # for balanced sampling and for the table of scores
    split: str = ""  # train | val | test; given, or from the group's hash


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """How the select model is trained."""

    steps: int = 450
    batch: int = 64
    lr: float = 2e-3
    weight_decay: float = 0.05
    warmup: int = 60
    ema: float = 0.99
    seed: int = 0
    max_side: int = 320  # px; pictures are kept in memory at this size at most
    val: float = 0.15
    test: float = 0.2


@dataclass(frozen=True)
class SelectRecipe:
    """`recipes/<recipe>/select.yaml`: the network's size (fields of SelectConfig) and the training."""

    model: dict[str, Any] = field(default_factory=dict)
    training: TrainSettings = field(default_factory=TrainSettings)

    def __post_init__(self) -> None:
        if isinstance(self.training, Mapping):
            object.__setattr__(self, "training", TrainSettings(**self.training))


def read_samples(path: Path | str, settings: TrainSettings | None = None) -> list[Sample]:
    """Labelled pictures of a CSV file or of a folder of folders, with their split.

    Raises BadSettings when a label is unknown or a class is missing.
    """
    path, settings = Path(path), settings or TrainSettings()
    samples = list(_from_csv(path) if path.is_file() else _from_folder(path))
    if {s.label for s in samples} != {0, 1}:
        raise BadSettings(f"{path}: both classes are needed, found {sorted({s.label for s in samples})}.")
    return [s if s.split else replace(s, split=split_of(s.group, settings)) for s in samples]


def split_of(group: str, settings: TrainSettings) -> str:
    """The side of the split that a group falls on, from its hash alone."""
    place = int(hashlib.sha256(f"{settings.seed}:{group}".encode()).hexdigest()[:8], 16) / 0xFFFFFFFF
    if place < settings.test:
        return "test"
    return "val" if place < settings.test + settings.val else "train"


def _label(text: str, where: str) -> int:
    if text.lower() in POSITIVE:
        return 1
    if text.lower() in NEGATIVE:
        return 0
    raise BadSettings(f"{where}: label {text!r} is unknown; use pathology or other.")


def _from_csv(path: Path) -> Iterator[Sample]:
    with path.open(newline="", encoding="utf-8") as file:
        for n, row in enumerate(csv.DictReader(file), 2):
            if "image" not in row or "label" not in row:
                raise BadSettings(f"{path} needs the columns image and label (and, optionally, group, source, split).")
            image = path.parent / row["image"]
            label = _label(row["label"], f"{path}:{n}")
            yield Sample(image, label, row.get("group") or str(image), row.get("source") or "", row.get("split") or "")


def _from_folder(path: Path) -> Iterator[Sample]:
    if not path.is_dir():
        raise BadSettings(f"{path} is neither a CSV file nor a folder with the folders pathology and other.")
    for folder in sorted(p for p in path.iterdir() if p.is_dir()):
        label = _label(folder.name, str(folder))
        for image in sorted(folder.rglob("*")):
            if image.suffix.lower() in (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp"):
                yield Sample(image, label, str(image), folder.name)


def load_pictures(samples: list[Sample], max_side: int) -> list[np.ndarray]:
    """The pictures as H×W×3 uint8 RGB, shrunk to `max_side` px at most. Raises BadInput for one that cannot be read."""
    import cv2

    from pathasst.curate.pictures import decode

    pictures = []
    for sample in samples:
        picture = decode(sample.image.read_bytes())
        scale = max_side / max(picture.shape[:2])
        if scale < 1:
            picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        pictures.append(picture)
    return pictures


def train(
    samples: list[Sample], out: Path | str, config: SelectConfig | None = None, settings: TrainSettings | None = None
) -> dict[str, Any]:
    """Train, calibrate on the validation split, write `model.safetensors` (fp16) and `config.json`, return the test scores.

    The scores hold F1 with its 95 % bootstrap interval by group, and the counts per source.
    """
    import torch
    from safetensors.torch import save_file

    config, settings, out = config or SelectConfig(), settings or TrainSettings(), Path(out)
    torch.manual_seed(settings.seed)
    started = time.time()
    parts = {name: [s for s in samples if s.split == name] for name in ("train", "val", "test")}
    if not all({s.label for s in part} == {0, 1} for part in parts.values()):
        raise BadSettings("each of train, val and test needs pictures of both classes; add pictures or groups.")
    model = _fit(parts["train"], config, settings)
    state = {k: v.half().contiguous() for k, v in model.state_dict().items()}
    model.load_state_dict({k: v.float() for k, v in state.items()})
    config = calibrate(model, parts["val"], config, settings)
    out.mkdir(parents=True, exist_ok=True)
    save_file(state, out / "model.safetensors", metadata={"format": "pt"})
    config.save(out / "config.json")
    scores = evaluate(Selector(model, config, "training"), parts["test"], settings)
    return {**scores, "n_train": len(parts["train"]), "n_val": len(parts["val"]), "minutes": (time.time() - started) / 60}


def _fit(samples: list[Sample], config: SelectConfig, settings: TrainSettings) -> torch.nn.Module:
    import torch
    from rich.console import Console

    model = build(config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(settings.ema))
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.lr, total_steps=settings.steps, pct_start=min(0.3, settings.warmup / settings.steps)
    )
    source: Any = _Batches(samples, load_pictures(samples, settings.max_side), config.size, settings)
    batches: Any = torch.utils.data.DataLoader(source, batch_size=None, num_workers=1)
    console = Console(stderr=True)
    for step, (pixels, labels) in enumerate(batches):
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        logits = model(pixels)
        loss = torch.nn.functional.cross_entropy(logits.float(), labels, label_smoothing=0.02)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        average.update_parameters(model)
        if step % 25 == 0:
            console.print(f"select: step {step}/{settings.steps}, loss {loss.item():.3f}")
    fitted: torch.nn.Module = average.module
    return fitted.eval()


class _Batches:
    """Augmented batches: half pathology, half other, each source of a class weighted by the root of its size."""

    def __init__(self, samples: list[Sample], pictures: list[np.ndarray], size: int, settings: TrainSettings) -> None:
        import numpy as np

        self.samples, self.size, self.settings = samples, size, settings
        self.augment = Augment(pictures)
        self.by_label = [np.array([i for i, s in enumerate(samples) if s.label == label]) for label in (0, 1)]
        counts: dict[tuple[int, str], int] = {}
        for s in samples:
            counts[s.label, s.source] = counts.get((s.label, s.source), 0) + 1
        raw = np.array([counts[s.label, s.source] ** -0.5 for s in samples])
        self.odds = [raw[i] / raw[i].sum() for i in self.by_label]

    def __len__(self) -> int:
        return self.settings.steps

    def __getitem__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        import numpy as np
        import torch

        if step >= self.settings.steps:
            raise IndexError(step)
        rng = np.random.default_rng((self.settings.seed, step))
        labels = np.arange(self.settings.batch) % 2
        pictures = [self.augment(rng, partial(self._draw, rng, int(label))) for label in labels]
        return to_tensor(pictures, self.size), torch.from_numpy(labels)

    def _draw(self, rng: np.random.Generator, label: int) -> int:
        return int(rng.choice(self.by_label[label], p=self.odds[label]))


def calibrate(model: torch.nn.Module, samples: list[Sample], config: SelectConfig, settings: TrainSettings) -> SelectConfig:
    """Platt scaling (temperature and bias) on the validation split, then the threshold of best F1 there."""
    import numpy as np
    import torch
    from sklearn.linear_model import LogisticRegression

    labels = np.array([s.label for s in samples])
    pictures = load_pictures(samples, settings.max_side)
    with torch.inference_mode():
        chunks = [model(to_tensor(pictures[i : i + 32], config.size)).float() for i in range(0, len(pictures), 32)]
    logits = torch.cat(chunks).numpy()
    margin = (logits[:, 1] - logits[:, 0])[:, None]
    platt = LogisticRegression(C=1.0, class_weight="balanced").fit(margin, labels)
    slope, bias = max(float(platt.coef_[0, 0]), 1e-3), float(platt.intercept_[0])
    p = 1 / (1 + np.exp(-(margin[:, 0] * slope + bias)))
    grid = np.linspace(0.2, 0.8, 61)
    f1 = np.array([f1_score(labels, p >= t) for t in grid])
    best = grid[f1 >= f1.max() - 1e-9]
    threshold = float(best[np.argmin(abs(best - 0.5))])
    return replace(config, temperature=1 / slope, bias=bias, threshold=round(threshold, 3))


def evaluate(selector: Selector, samples: list[Sample], settings: TrainSettings | None = None) -> dict[str, Any]:
    """F1 (pathology) with a 95 % interval bootstrapped by group, precision, recall, and right/all per source."""
    import numpy as np

    settings = settings or TrainSettings()
    labels = np.array([s.label for s in samples])
    scores = selector.score(load_pictures(samples, settings.max_side))
    found = scores >= selector.config.threshold
    groups = [s.group for s in samples]
    low, high = interval(lambda i: f1_score(labels[i], found[i]), groups, seed=settings.seed)
    sources: dict[str, list[int]] = {}
    for s, hit in zip(samples, found == labels, strict=True):
        entry = sources.setdefault(f"{'pathology' if s.label else 'other'}/{s.source}", [0, 0])
        entry[0] += int(hit)
        entry[1] += 1
    true = int((found & (labels == 1)).sum())
    return {
        "f1": f1_score(labels, found),
        "f1_interval": (low, high),
        "precision": true / max(int(found.sum()), 1),
        "recall": true / max(int(labels.sum()), 1),
        "n": len(samples),
        "per_source": {k: f"{v[0]}/{v[1]}" for k, v in sorted(sources.items())},
    }
