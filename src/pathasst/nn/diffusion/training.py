"""Teaching the small diffusion model: cells with measured attributes in words. Resumable; the moving average is what is kept."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pathasst.core.errors import BadDataset, BadSettings
from pathasst.core.hardware import has_fast_bfloat16
from pathasst.nn.classifier.augment import squash
from pathasst.nn.classifier.items import Item, read_picture
from pathasst.nn.diffusion.describe import Attributes, Limits, attributes, measure, words
from pathasst.nn.diffusion.network import Generator, GeneratorConfig, Network, Words, schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorSettings:
    """How the generator is trained."""

    size: int = 64
    square: int = 4  # px a side of the squares that become `channels` numbers
    channels: int = 12
    widths: tuple[int, ...] = (64, 128)
    layers: int = 1
    guidance: float = 2.0
    steps: int = 20000
    minutes: float = 60.0  # stop after so many minutes of the process's CPU time, the rate falling to zero by then; 0: no limit
    batch: int = 32
    lr: float = 6e-4
    warmup: float = 0.02
    ema: float = 0.998
    balance: float = 0.5  # 0: every cell alike; 1: every class alike
    wordings: int = 4  # sentences a cell; each leaves out other attributes
    shift: int = 3  # px at most that a cell is moved by, its edge mirrored: few cells are not learnt by heart
    unsaid: float = 0.12  # share of the cells shown without words, for classifier-free guidance
    snr: float = 5.0  # limit of the weight of little-noised pictures (Hang et al. 2023)
    save_every: float = 2.0  # minutes between two states on disk
    seed: int = 0
    bf16: bool = True  # where the CPU multiplies it in hardware; else float32

    @classmethod
    def make(cls, values: dict[str, Any]) -> GeneratorSettings:
        """From a recipe. Raises BadSettings for an unknown setting."""
        if unknown := set(values) - {f.name for f in fields(cls)}:
            raise BadSettings(f"the generator has no settings {', '.join(sorted(unknown))}")
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**plain)

    def config(self, limits: Limits | None, classes: tuple[str, ...]) -> GeneratorConfig:
        told = limits.plain() if limits else {}
        same = {name: getattr(self, name) for name in ("size", "square", "channels", "widths", "layers", "guidance")}
        return GeneratorConfig(**same, limits=told, classes=classes)


class Cells:
    """Training cells in memory: pixels, and for each what can be said of it. `texts`: sentences of the user's own instead."""

    def __init__(self, items: Sequence[Item], size: int, texts: Sequence[str] | None = None) -> None:
        if not items:
            raise BadDataset("there is no picture to learn from")
        crops = [read_picture(i) for i in items]
        self.labels, self.texts = [i.label for i in items], texts
        self.pictures = [squash(c, size) for c in crops]
        self.said: list[Attributes] = []
        self.limits: Limits | None = None
        if texts is None:
            found = [measure(c) for c in crops]
            self.limits = Limits.fit(found, self.labels)
            self.said = [attributes(label, m, self.limits) for label, m in zip(self.labels, found, strict=True)]

    def sentences(self, count: int, rng: np.random.Generator) -> list[list[str]]:
        """`count` wordings of each cell, made once: a sentence costs more to embed than a step of training. The user's own
        sentence stays the only one."""
        if self.texts is not None:
            return [[text] for text in self.texts]
        return [[words(said.without(rng), rng) for _ in range(count)] for said in self.said]


def train(
    settings: GeneratorSettings,
    items: Sequence[Item],
    out: Path,
    texts: Sequence[str] | None = None,
    log: Callable[[dict[str, Any]], None] | None = None,
) -> Generator:
    """Learn to draw the items; writes `model.safetensors`, `config.json`, `train.jsonl` and, while it runs, `state.pt`.

    `texts`: one sentence an item; without them sentences are made of the label and of what can be measured on a cell.
    """
    torch.manual_seed(settings.seed)
    out.mkdir(parents=True, exist_ok=True)
    run = _Training(settings, Cells(items, settings.size, texts), out, log)
    run.go()
    generator = Generator(Network(run.config), run.config, run.words)
    generator.network.load_state_dict(run.average)
    generator.save(out)
    (out / "state.pt").unlink(missing_ok=True)
    return generator


class _Training:
    """Network, optimiser, moving average, and the loop."""

    def __init__(self, settings: GeneratorSettings, cells: Cells, out: Path, log: Any) -> None:
        self.settings, self.cells, self.out, self.log, self.words = settings, cells, out, log, Words()
        self.config = settings.config(cells.limits, tuple(sorted(set(cells.labels))))
        self.network = Network(self.config).to(memory_format=torch.channels_last)
        pixels = torch.from_numpy(np.stack(cells.pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
        self.network.squares.fit(pixels)
        self.sentences = cells.sentences(settings.wordings, np.random.default_rng(settings.seed))
        self.words([text for some in self.sentences for text in some])
        self.optimiser = torch.optim.AdamW(self.network.parameters(), settings.lr, betas=(0.9, 0.99), weight_decay=1e-3)
        self.average = {k: v.detach().clone() for k, v in self.network.state_dict().items()}
        self.step, self.spent = 0, 0.0
        counts = Counter(cells.labels)
        odds = np.array([counts[label] for label in cells.labels], float) ** -settings.balance
        self.odds = odds / odds.sum()
        noise = schedule()
        self.alphas = noise.alphas_cumprod.float()
        self._resume()

    def go(self) -> None:
        """Train to the end."""
        settings, begun, saved, recent = self.settings, time.process_time() - self.spent, self.spent, []
        while self.step < settings.steps:
            self.spent = time.process_time() - begun
            timed = self.spent / (60 * settings.minutes) if settings.minutes else 0.0
            progress = max(self.step / settings.steps, timed)
            if progress >= 1:
                break
            warm = min(progress / settings.warmup, 1.0)
            rate = settings.lr * max(warm, 1e-3) * 0.5 * (1 + math.cos(math.pi * max(0.0, (progress - 0.3) / 0.7)))
            recent.append(self._learn(rate))
            self.step += 1
            if self.step % 50 == 0:
                entry = {"step": self.step, "seconds": round(self.spent, 1), "loss": round(float(np.mean(recent)), 5)}
                recent.clear()
                with (self.out / "train.jsonl").open("a", encoding="utf-8") as file:
                    file.write(json.dumps(entry) + "\n")
                if self.log:
                    self.log(entry)
            if self.spent - saved > 60 * settings.save_every:
                saved = self.spent
                self._save()

    def batch(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """(pictures as maps N×channels×h×w, noise, times, vectors of the sentences); all follows from (seed, step)."""
        settings = self.settings
        rng = np.random.default_rng((settings.seed, self.step))
        chosen = rng.choice(len(self.odds), settings.batch, p=self.odds)
        pixels = np.stack([_view(self.cells.pictures[i], settings.shift, rng) for i in chosen])
        some = [self.sentences[i] for i in chosen]
        texts = ["" if rng.random() < settings.unsaid else own[int(rng.integers(len(own)))] for own in some]
        clean = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
        dice = torch.Generator().manual_seed(settings.seed * 1_000_003 + self.step)
        # One time in each of N equal spans: less noise in the loss than N free draws.
        spans = (torch.arange(settings.batch) + torch.rand(settings.batch, generator=dice)) / settings.batch
        times = (spans * 1000).long().clamp(max=999)
        x = self.network.squares.encode(clean)
        return x, torch.randn(x.shape, generator=dice), times, self.words(texts)

    def _learn(self, rate: float) -> float:
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        x, noise, times, vectors = self.batch()
        alpha = self.alphas[times].view(-1, 1, 1, 1)
        signal, sigma = alpha.sqrt(), (1 - alpha).sqrt()
        self.network.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.settings.bf16 and has_fast_bfloat16()):
            found = self.network(signal * x + sigma * noise, times, vectors)
        errors = (found - (signal * noise - sigma * x)).square().mean((1, 2, 3))
        # v-prediction's own weight is SNR + 1; min(SNR, γ)/(SNR + 1) keeps easy, little-noised pictures from ruling.
        snr = (alpha / (1 - alpha).clamp(min=1e-6)).flatten()
        loss = (errors * (snr.clamp(max=self.settings.snr) + 0.2) / (snr + 1)).mean()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        decay = min(self.settings.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.values()), list(self.network.state_dict().values()), 1 - decay)
        return float(errors.detach().mean())

    def _key(self) -> str:
        """What a state must agree in. How long to train may change: a run can be brought to its end earlier, or go on longer."""
        same = {k: v for k, v in asdict(self.settings).items() if k not in ("steps", "minutes", "save_every")}
        return json.dumps([same, len(self.odds)])

    def _save(self) -> None:
        state = {"step": self.step, "spent": self.spent, "average": self.average, "network": self.network.state_dict()}
        torch.save({**state, "optimiser": self.optimiser.state_dict(), "settings": self._key()}, self.out / "state.pt.new")
        (self.out / "state.pt.new").replace(self.out / "state.pt")

    def _resume(self) -> None:
        file = self.out / "state.pt"
        state: dict[str, Any] = torch.load(file, weights_only=True) if file.is_file() else {"settings": ""}
        if state["settings"] != self._key():
            (self.out / "train.jsonl").unlink(missing_ok=True)
            return
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.spent, self.average = state["step"], state["spent"], state["average"]


def _view(picture: np.ndarray, shift: int, rng: np.random.Generator) -> np.ndarray:
    """The picture moved by up to `shift` px each way, turned and mirrored."""
    size = len(picture)
    x, y = rng.integers(0, 2 * shift + 1, 2)
    moved = np.pad(picture, ((shift, shift), (shift, shift), (0, 0)), "reflect")[y : y + size, x : x + size]
    turned = np.rot90(moved, int(rng.integers(4)))
    return np.ascontiguousarray(turned[:, ::-1] if rng.random() < 0.5 else turned)
