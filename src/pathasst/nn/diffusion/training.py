"""Training the small diffusion model: cells with measured attributes in words. What is kept is the average of the weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from pathasst.core.errors import BadDataset
from pathasst.core.files import fingerprint
from pathasst.core.settings import Field
from pathasst.nn.classifier.augment import squash
from pathasst.nn.classifier.items import ClassifierItem, read_picture
from pathasst.nn.diffusion.describe import Attributes, GradeLimits, attributes, measure, words
from pathasst.nn.diffusion.network import DiffusionNetwork, Generator, GeneratorConfig, SentenceVectors, schedule
from pathasst.training import Task, TrainingSettings, fit
from pathasst.training.settings import BatchSize, Ema, Every, Hold, LearningRate, Minutes, Share, Steps, Warmup, WeightDecay


class GeneratorTraining(TrainingSettings):
    """How the generator is trained."""

    room: ClassVar[str] = "generator"
    renamed: ClassVar[dict[str, str]] = {**TrainingSettings.renamed, "unsaid": "no_text"}

    split: str = Field(
        default="", description="Classifier recipe whose sources and split are taken (`recipes/embedded/lbc.yaml`)."
    )
    data: tuple[str, ...] = Field(default=(), description="Names of those of its sources that show single cells.")
    size: int = Field(default=64, ge=1, description="px a side of the pictures.")
    square: int = Field(default=4, ge=1, description="px a side of the squares that become `channels` numbers.")
    channels: int = Field(default=12, ge=1, description="Numbers a square.")
    widths: tuple[int, ...] = Field(default=(64, 128), min_length=1, description="Channels of the UNet's levels.")
    layers: int = Field(default=1, ge=1, description="Layers of a level.")
    guidance: float = Field(default=2.0, ge=0, description="Of classifier-free guidance when it draws.")
    steps: Steps = 20000
    minutes: Minutes = 60.0
    batch: BatchSize = 32
    lr: LearningRate = 6e-4
    warmup: Warmup = 0.02
    hold: Hold = 0.3
    weight_decay: WeightDecay = 1e-3
    ema: Ema = 0.998
    balance: Share = Field(default=0.5, description="0: every cell alike; 1: every class alike.")
    wordings: int = Field(default=4, ge=1, description="Sentences of a cell; each leaves out other attributes.")
    shift: int = Field(default=3, ge=0, description="px at most that a cell is moved by, its edge mirrored.")
    no_text: Share = Field(default=0.12, description="Share of the cells shown without words, for classifier-free guidance.")
    snr: float = Field(default=5.0, gt=0, description="Limit of the weight of little-noised pictures (Hang et al. 2023).")
    seed: int = Field(default=0, ge=0, description="All random choices follow from it.")
    save_every: int = Field(default=500, ge=1, description="Steps between checkpoints.")
    evaluate_every: Every = Field(
        default=0,
        description="Steps between losses on the split val, which choose the weights. 0: the last ones are kept.",
    )

    def config(self, limits: GradeLimits | None, classes: tuple[str, ...]) -> GeneratorConfig:
        """The configuration of the generator that this training makes."""
        same = {name: getattr(self, name) for name in ("size", "square", "channels", "widths", "layers", "guidance")}
        return GeneratorConfig(**same, limits=limits.plain() if limits else {}, classes=classes)


class CellPictures:
    """Training cells in memory: pixels, and for each its attributes. `texts`: sentences of the user's own instead."""

    def __init__(
        self,
        items: Sequence[ClassifierItem],
        size: int,
        texts: Sequence[str] | None = None,
        limits: GradeLimits | None = None,
    ) -> None:
        if not items:
            raise BadDataset("there is no picture to learn from")
        crops = [read_picture(i) for i in items]
        self.labels, self.texts = [i.label for i in items], texts
        self.pictures = [squash(c, size) for c in crops]
        self.attributes: list[Attributes] = []
        self.limits = limits
        if texts is None:
            measures = [measure(c) for c in crops]
            self.limits = grades = limits or GradeLimits.fit(measures, self.labels)
            self.attributes = [attributes(label, m, grades) for label, m in zip(self.labels, measures, strict=True)]

    @property
    def pixels(self) -> torch.Tensor:
        """float32 N×3×S×S in −1…1."""
        return torch.from_numpy(np.stack(self.pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1

    def sentences(self, count: int, rng: np.random.Generator) -> list[list[str]]:
        """`count` wordings of each cell, made once: a sentence costs more to embed than a step of training. The user's own
        sentence stays the only one."""
        if self.texts is not None:
            return [[text] for text in self.texts]
        return [[words(cell.without(rng), rng) for _ in range(count)] for cell in self.attributes]


def train(
    settings: GeneratorTraining,
    items: Sequence[ClassifierItem],
    out: Path,
    texts: Sequence[str] | None = None,
    log: Callable[[dict[str, Any]], None] | None = None,
    *,
    stop_at: int = 0,
) -> Generator:
    """Learn to draw the items but those of the split val; writes `model.safetensors`, `config.json`, and as `training.fit` does.

    `texts`: one sentence an item; without them sentences are made of the label and of what can be measured on a cell.
    Interrupted trainings resume with the same call; `stop_at` ends one early. Raises BadDataset when there is no picture.
    """
    rows = {split: [n for n, i in enumerate(items) if (i.split == "val") is (split == "val")] for split in ("train", "val")}
    cells: dict[str, CellPictures] = {}
    for split, numbers in rows.items():
        if split == "train" or (numbers and settings.evaluate_every):
            own = [texts[n] for n in numbers] if texts is not None else None
            limits = cells["train"].limits if split == "val" else None
            cells[split] = CellPictures([items[n] for n in numbers], settings.size, own, limits)
    task = GeneratorTask(settings, cells["train"], cells.get("val"))
    trained = fit(task, settings, out, log=log, stop_at=stop_at)
    generator = Generator(task.network, task.config, task.words)
    if trained.finished:
        generator.save(out)
    trained.remove_checkpoints()
    return generator


class GeneratorTask(Task):
    """The network on noised maps of cells; the average of the last weights is kept, or with `val` of those that fit it best."""

    def __init__(self, settings: GeneratorTraining, cells: CellPictures, val: CellPictures | None = None) -> None:
        torch.manual_seed(settings.seed)
        self.settings, self.cells, self.words = settings, cells, SentenceVectors()
        self.config = settings.config(cells.limits, tuple(sorted(set(cells.labels))))
        self.network: DiffusionNetwork = DiffusionNetwork(self.config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        super().__init__(self.network)
        pixels = cells.pixels
        self.network.squares.fit(pixels)
        self.sentences = cells.sentences(settings.wordings, np.random.default_rng(settings.seed))
        self.words([text for some in self.sentences for text in some])
        counts = Counter(cells.labels)
        odds = np.array([counts[label] for label in cells.labels], float) ** -settings.balance
        self.odds = odds / odds.sum()
        self.alphas = schedule().alphas_cumprod.float()
        self.val, self.best = val, "negative_val_loss" if val else ""
        self.data = fingerprint({"labels": cells.labels, "sentences": self.sentences, "pixels": round(float(pixels.sum()), 1)})

    def batch(self, step: int, places: range) -> tuple[torch.Tensor, ...]:
        """(pictures N×3×S×S in −1…1, noise of the maps' shape, times, vectors of the sentences)."""
        settings, side = self.settings, self.config.side
        pictures, noises, times, texts = [], [], [], []
        for place in places:
            rng = np.random.default_rng((settings.seed, step, place))
            index = int(rng.choice(len(self.odds), p=self.odds))
            pictures.append(_view(self.cells.pictures[index], settings.shift, rng))
            noises.append(rng.standard_normal((settings.channels, side, side), np.float32))
            # One time in each of N equal spans: less noise in the loss than N free draws.
            times.append(min(int((place + rng.random()) / settings.batch * 1000), 999))
            own = self.sentences[index]
            texts.append("" if rng.random() < settings.no_text else own[int(rng.integers(len(own)))])
        clean = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
        return clean, torch.from_numpy(np.stack(noises)), torch.tensor(times), self.words(texts)

    def loss(self, model: torch.nn.Module, batch: Any) -> dict[str, torch.Tensor]:
        clean, noise, times, vectors = batch
        x = self.network.squares.encode(clean)
        alpha = self.alphas.to(x.device)[times].view(-1, 1, 1, 1)
        signal, sigma = alpha.sqrt(), (1 - alpha).sqrt()
        velocity = model(signal * x + sigma * noise, times, vectors)
        errors = (velocity - (signal * noise - sigma * x)).square().mean((1, 2, 3))
        # v-prediction's own weight is SNR + 1; min(SNR, γ)/(SNR + 1) keeps easy, little-noised pictures from ruling.
        snr = (alpha / (1 - alpha).clamp(min=1e-6)).flatten()
        return {"loss": (errors * (snr.clamp(max=self.settings.snr) + 0.2) / (snr + 1)).mean(), "error": errors.mean()}

    def evaluate(self, model: torch.nn.Module) -> dict[str, float]:
        """The loss on the cells of val: each once, always with the same sentence, noise and time."""
        if self.val is None:
            return {}
        rng, device = np.random.default_rng(0), next(model.parameters()).device
        pixels, count = self.val.pixels, len(self.val.pictures)
        vectors = self.words([some[0] for some in self.val.sentences(1, rng)])
        noise = torch.from_numpy(rng.standard_normal((count, self.settings.channels, *[self.config.side] * 2), np.float32))
        times = torch.from_numpy(rng.permutation(np.linspace(0, 999, count).astype(np.int64)))
        total = 0.0
        for rows in torch.arange(count).split(self.settings.batch):
            batch = [part[rows].to(device) for part in (pixels, noise, times, vectors)]
            total += len(rows) * float(self.loss(model, batch)["loss"])
        return {"val_loss": total / count, "negative_val_loss": -total / count}

    def optimizer(self, settings: TrainingSettings) -> torch.optim.Optimizer:
        """AdamW with a short memory of squared gradients."""
        return torch.optim.AdamW(self.network.parameters(), settings.lr, betas=(0.9, 0.99), weight_decay=settings.weight_decay)


def _view(picture: np.ndarray, shift: int, rng: np.random.Generator) -> np.ndarray:
    """The picture moved by up to `shift` px each way, turned and mirrored."""
    size = len(picture)
    x, y = rng.integers(0, 2 * shift + 1, 2)
    shifted = np.pad(picture, ((shift, shift), (shift, shift), (0, 0)), "reflect")[y : y + size, x : x + size]
    turned = np.rot90(shifted, int(rng.integers(4)))
    return np.ascontiguousarray(turned[:, ::-1] if rng.random() < 0.5 else turned)
