"""The small diffusion model: words to pictures of 64×64 px. Knows words and pixels, no class and no training.

A UNet of `diffusers` on 2×2 patches (12 channels at half the side), told the noise level and MiniLM's vector of the sentence;
v-prediction (Salimans & Ho 2022), a cosine schedule scaled to no signal at its end (Lin et al. 2024), classifier-free
guidance, DDIM.
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

from pathasst import weights
from pathasst.errors import BadInput, BadSettings
from pathasst.precision import has_fast_bfloat16

TEXT = 384
"""Values of MiniLM's sentence vector."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorConfig:
    """The network; kept as `config.json` beside the weights."""

    size: int = 64  # px
    widths: tuple[int, ...] = (48, 80, 128)  # of the UNet's levels
    layers: int = 1
    steps: int = 25  # of DDIM
    guidance: float = 2.0  # of classifier-free guidance
    limits: dict[str, float] = field(default_factory=dict)  # describe.Limits of the training cells
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))
        object.__setattr__(self, "classes", tuple(self.classes))
        if self.size % (2 ** len(self.widths)) or self.steps < 1:
            raise BadSettings(f"size must be a multiple of {2 ** len(self.widths)} px and steps at least 1")


def build(config: GeneratorConfig) -> Any:
    """An untrained UNet."""
    from diffusers import UNet2DConditionModel

    down = ["DownBlock2D"] * (len(config.widths) - 1) + ["CrossAttnDownBlock2D"]
    up = ["CrossAttnUpBlock2D"] + ["UpBlock2D"] * (len(config.widths) - 1)
    return UNet2DConditionModel(
        sample_size=config.size // 2,
        in_channels=12,
        out_channels=12,
        down_block_types=down,
        mid_block_type="UNetMidBlock2DCrossAttn",
        up_block_types=up,
        block_out_channels=config.widths,
        layers_per_block=config.layers,
        cross_attention_dim=TEXT,
        attention_head_dim=8,
        norm_num_groups=16,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=TEXT,
    )


def schedule() -> Any:
    """The noise schedule, for training and drawing alike."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=True,
    )


class Words:
    """MiniLM's unit vector of each sentence, kept once made; the empty sentence is the zero vector (nothing is asked)."""

    def __init__(self) -> None:
        self._known: dict[str, torch.Tensor] = {"": torch.zeros(TEXT)}

    @cached_property
    def _model(self) -> tuple[Any, Any]:
        from tokenizers import Tokenizer
        from transformers import AutoModel

        folder = weights.path("minilm")
        return Tokenizer.from_file(str(folder / "tokenizer.json")), AutoModel.from_pretrained(folder).eval()

    def __call__(self, texts: Sequence[str]) -> torch.Tensor:
        """N sentences → N×384 float32. Raises MissingWeights without `minilm`."""
        for text in texts:
            if text not in self._known:
                self._known[text] = self._encode(text)
        return torch.stack([self._known[t] for t in texts])

    @torch.inference_mode()
    def _encode(self, text: str) -> torch.Tensor:
        tokenizer, model = self._model
        tokenizer.no_padding()
        ids = torch.tensor([tokenizer.encode(text).ids[:128]])
        return F.normalize(model(ids).last_hidden_state.mean(1)[0], dim=0).clone()


class Generator:
    """A trained generator: sentences in, pictures out."""

    def __init__(self, network: Any, config: GeneratorConfig, words: Words | None = None, version: str = "") -> None:
        self.network = network.eval().to(memory_format=torch.channels_last)
        self.config, self.version = config, version
        self.words = words or Words()
        self.bf16 = has_fast_bfloat16()

    @classmethod
    def load(cls, source: str | Path) -> Generator:
        """`source`: an id of the registry, or a folder. Raises MissingWeights, or BadInput for files that do not fit."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        folder = Path(source) if Path(source).is_dir() else weights.path(str(source))
        try:
            config = GeneratorConfig(**json.loads((folder / "config.json").read_text(encoding="utf-8")))
            network = build(config)
            network.load_state_dict({k: v.float() for k, v in load_file(folder / "model.safetensors").items()})
        except (OSError, ValueError, TypeError, SafetensorError, RuntimeError, BadSettings) as error:
            raise BadInput(f"{folder} holds no generator of ours: {str(error)[:300]}") from error
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
        vectors, side = self.words(texts), self.config.size // 2
        starts = [torch.randn(12, side, side, generator=torch.Generator().manual_seed(seed + k)) for k in range(len(texts))]
        x, noise = torch.stack(starts), schedule()
        noise.set_timesteps(steps or self.config.steps)
        for t in noise.timesteps:
            with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
                asked = self._predict(x, t, vectors)
                free = self._predict(x, t, torch.zeros_like(vectors)) if strength != 1 else asked
            x = noise.step(free + strength * (asked - free), t, x).prev_sample
        pixels = F.pixel_shuffle(x, 2).clamp(-1, 1)
        return ((pixels + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()

    def _predict(self, x: torch.Tensor, t: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        seen = x.contiguous(memory_format=torch.channels_last)
        found: torch.Tensor = self.network(seen, t.expand(len(x)), vectors[:, None], class_labels=vectors).sample
        return found.float()
