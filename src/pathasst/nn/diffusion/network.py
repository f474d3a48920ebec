"""The small diffusion model: words to pictures of 64×64 px. Knows words and pixels, no class and no training.

Squares of 4×4 px become twelve numbers, their principal components (`SquarePCA`): a linear and exact counterpart of the
autoencoder of latent diffusion (Rombach et al. 2022) that needs no training. On this map works a small UNet, told the noise level
and MiniLM's vector of the sentence; v-prediction (Salimans & Ho 2022), a cosine schedule scaled to no signal at its
end (Lin et al. 2024), classifier-free guidance, DDIM.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from pathasst.core import weights
from pathasst.core.errors import BadInput, BadSettings
from pathasst.core.hardware import has_fast_bfloat16
from pathasst.nn.diffusion.unet import UNet
from pathasst.nn.pretrained import text_encoder

TEXT = 384
"""Values of MiniLM's sentence vector."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorConfig:
    """The network; kept as `config.json` beside the weights."""

    size: int = 64  # px
    square: int = 4  # px a side of the squares
    channels: int = 12  # numbers a square
    widths: tuple[int, ...] = (64, 128)  # of the UNet's levels
    layers: int = 1
    steps: int = 25  # of DDIM
    guidance: float = 2.0  # of classifier-free guidance
    limits: dict[str, float] = field(default_factory=dict)  # describe.GradeLimits of the training cells
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))
        object.__setattr__(self, "classes", tuple(self.classes))
        least = self.square * 2 ** (len(self.widths) - 1)
        if self.size % least or self.steps < 1:
            raise BadSettings(f"size must be a multiple of {least} px and steps at least 1")
        if not 1 <= self.channels <= 3 * self.square**2:
            raise BadSettings(f"channels must be at most the {3 * self.square**2} values of a square")

    @property
    def side(self) -> int:
        """Squares a side."""
        return self.size // self.square


class SquarePCA(torch.nn.Module):
    """Pixels N×3×H×W in −1…1 ↔ maps N×channels×h×w: principal components of the squares, each divided by the root of its
    deviation, so that coarse structure still outweighs grain, as in pixels, but less."""

    def __init__(self, square: int, channels: int) -> None:
        super().__init__()
        self.square, self.width = square, 3 * square**2
        self.register_buffer("mean", torch.zeros(self.width))
        self.register_buffer("basis", torch.eye(self.width)[:channels].clone())
        self.register_buffer("scale", torch.ones(channels))
        self.mean: torch.Tensor
        self.basis: torch.Tensor
        self.scale: torch.Tensor

    def fit(self, pixels: torch.Tensor) -> None:
        """Take mean and components of some pictures; the map's mean variance becomes 1."""
        rows = F.pixel_unshuffle(pixels, self.square).permute(0, 2, 3, 1).reshape(-1, self.width)
        self.mean.copy_(rows.mean(0))
        values, vectors = torch.linalg.eigh(torch.cov(rows.T.double()))
        keep = len(self.scale)
        deviation = values.flip(0)[:keep].clamp(min=1e-8).sqrt()
        self.basis.copy_(vectors.flip(1)[:, :keep].T)
        self.scale.copy_(deviation.sqrt() * deviation.mean().sqrt())

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        rows = F.pixel_unshuffle(pixels, self.square).permute(0, 2, 3, 1) - self.mean
        return (rows @ self.basis.T / self.scale).permute(0, 3, 1, 2)

    def decode(self, maps: torch.Tensor) -> torch.Tensor:
        rows = (maps.permute(0, 2, 3, 1) * self.scale) @ self.basis + self.mean
        return F.pixel_shuffle(rows.permute(0, 3, 1, 2), self.square)


class DiffusionNetwork(torch.nn.Module):
    """All that is learnt: the squares' components and the UNet."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.squares = SquarePCA(config.square, config.channels)
        self.unet = UNet(config.channels, config.widths, config.layers, TEXT)

    def forward(self, x: torch.Tensor, times: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        """Noised maps N×channels×h×w, times N, sentence vectors N×384 → the predicted velocity, of the maps' shape."""
        output: torch.Tensor = self.unet(x.contiguous(memory_format=torch.channels_last), times, vectors)
        return output


def schedule() -> Any:
    """The noise schedule, for training and drawing alike."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
    )


class SentenceVectors:
    """MiniLM's unit vector of each sentence, kept once made; the empty sentence is the zero vector (nothing is asked)."""

    def __init__(self) -> None:
        self._text_vectors: dict[str, torch.Tensor] = {"": torch.zeros(TEXT)}

    @cached_property
    def _model(self) -> tuple[Any, Any]:
        from tokenizers import Tokenizer

        folder = weights.path("minilm")
        return Tokenizer.from_file(str(folder / "tokenizer.json")), text_encoder(folder)

    def __call__(self, texts: Sequence[str]) -> torch.Tensor:
        """N sentences → N×384 float32. Raises MissingWeights without `minilm`."""
        new = sorted({t for t in texts if t not in self._text_vectors}, key=len)
        for start in range(0, len(new), 64):
            some = new[start : start + 64]
            self._text_vectors.update(zip(some, self._encode(some), strict=True))
        return torch.stack([self._text_vectors[t] for t in texts])

    @torch.no_grad()
    def _encode(self, texts: list[str]) -> torch.Tensor:
        tokenizer, model = self._model
        tokenizer.no_padding()
        ids = [torch.tensor(tokenizer.encode(text).ids[:128]) for text in texts]
        padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
        mask = torch.arange(padded.shape[1])[None] < torch.tensor([len(i) for i in ids])[:, None]
        states = model(padded, attention_mask=mask.long()).last_hidden_state * mask[..., None]
        return F.normalize(states.sum(1), dim=1)  # of the sum, as of the mean


class Generator:
    """A trained generator: sentences in, pictures out."""

    def __init__(self, network: Any, config: GeneratorConfig, words: SentenceVectors | None = None, version: str = "") -> None:
        self.network = network.eval().to(memory_format=torch.channels_last)
        self.config, self.version = config, version
        self.words = words or SentenceVectors()
        self.bf16 = has_fast_bfloat16()

    @classmethod
    def load(cls, source: str | Path) -> Generator:
        """`source`: an id of the registry, or a folder. Raises MissingWeights, or BadInput for files that do not fit."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        folder = Path(source) if Path(source).is_dir() else weights.path(str(source))
        try:
            config = GeneratorConfig(**json.loads((folder / "config.json").read_text(encoding="utf-8")))
            network = DiffusionNetwork(config)
            network.load_state_dict({k: v.float() for k, v in load_file(folder / "model.safetensors").items()})
        except (OSError, ValueError, TypeError, SafetensorError, RuntimeError, BadSettings) as error:
            raise BadInput(f"{folder} holds no generator as `pathasst train generator` makes it: {str(error)[:300]}") from error
        return cls(network, config, version=weights.version(str(source)))

    def save(self, folder: Path) -> None:
        """Write `model.safetensors` (fp16) and `config.json`."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        save_file({k: v.half().contiguous() for k, v in self.network.state_dict().items()}, folder / "model.safetensors")
        (folder / "config.json").write_text(
            json.dumps(asdict(self.config), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )

    @torch.inference_mode()
    def draw(self, texts: Sequence[str], seed: int = 0, guidance: float | None = None, steps: int | None = None) -> np.ndarray:
        """One picture a sentence, N×size×size×3 uint8 RGB; the same seed gives the same pictures (picture k has seed + k)."""
        strength = self.config.guidance if guidance is None else guidance
        vectors, side, channels = self.words(texts), self.config.side, self.config.channels
        starts = [torch.randn(channels, side, side, generator=torch.Generator().manual_seed(seed + k)) for k in range(len(texts))]
        x, noise = torch.stack(starts), schedule()
        noise.set_timesteps(steps or self.config.steps)
        for t in noise.timesteps:
            with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
                predicted = self.network(x, t.expand(len(x)), vectors)
                free = self.network(x, t.expand(len(x)), torch.zeros_like(vectors)) if strength != 1 else predicted
            x = noise.step(free + strength * (predicted - free), t, x).prev_sample
        pixels = self.network.squares.decode(x).clamp(-1, 1)
        return ((pixels + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
