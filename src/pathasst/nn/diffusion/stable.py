"""Stable Diffusion through `diffusers` (paper, model zoo 4): load any checkpoint, fine-tune all of the UNet or low-rank adapters.

Knows image + text pairs, nothing of cells. Checkpoints are folders in diffusers' layout or single safetensors files; nothing is
fetched and nothing is unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn import functional as F

from pathasst.core.errors import BadInput, BadSettings
from pathasst.core.files import fingerprint
from pathasst.core.settings import Field
from pathasst.nn.classifier.augment import squash
from pathasst.nn.classifier.items import ClassifierItem, read_picture
from pathasst.training import Task, TrainingSettings, fit
from pathasst.training.settings import BatchSize, LearningRate, Share, Steps, Warmup

ADAPTERS = "pytorch_lora_weights.safetensors"
ATTENTION = ["to_k", "to_q", "to_v", "to_out.0"]
"""The layers that low-rank adapters are put on, as is customary."""


class StableTraining(TrainingSettings):
    """Fine-tuning; the defaults are those of diffusers' own text-to-image examples (recipes/paper/generator.yaml)."""

    room: ClassVar[str] = "generator"
    renamed: ClassVar[dict[str, str]] = {**TrainingSettings.renamed, "unsaid": "no_text"}

    checkpoint: str = Field(default="", description="Folder or safetensors file of a Stable Diffusion.")
    lora: int = Field(default=16, ge=0, description="Rank of the adapters; 0: all of the UNet is trained, then lr 1e-5.")
    size: int = Field(default=512, ge=8, description="px a side of the pictures.")
    steps: Steps = 4000
    batch: BatchSize = 4
    lr: LearningRate = 1e-4
    warmup: Warmup = 0.0
    no_text: Share = Field(default=0.1, description="Share of the pictures shown without words, for classifier-free guidance.")
    save_every: int = Field(default=500, ge=1, description="Steps between checkpoints.")


def load(checkpoint: str | Path, adapters: str | Path | None = None) -> Any:
    """A `StableDiffusionPipeline` from a folder or a `.safetensors` file, with adapters of ours if given; without a safety
    checker, which knows photographs alone. Raises BadInput when the files are no such checkpoint.
    """
    from diffusers import StableDiffusionPipeline

    path = Path(checkpoint)
    try:
        if path.is_file():
            pipeline = StableDiffusionPipeline.from_single_file(str(path), local_files_only=True)
        else:
            pipeline = StableDiffusionPipeline.from_pretrained(
                path, safety_checker=None, requires_safety_checker=False, local_files_only=True, use_safetensors=True
            )
        if adapters:
            pipeline.load_lora_weights(str(adapters), weight_name=ADAPTERS)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise BadInput(f"{path} is no Stable Diffusion checkpoint that diffusers can read: {str(error)[:300]}") from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to("cuda" if torch.cuda.is_available() else "cpu")


def draw(
    pipeline: Any, texts: Sequence[str], seed: int = 0, steps: int = 30, guidance: float = 7.5, size: int | None = None
) -> np.ndarray:
    """One picture a sentence: N×H×W×3 uint8 RGB; the same seed gives the same pictures."""
    dice = [torch.Generator().manual_seed(seed + k) for k in range(len(texts))]
    sides = {"height": size, "width": size} if size else {}
    output = pipeline(list(texts), num_inference_steps=steps, guidance_scale=guidance, generator=dice, output_type="np", **sides)
    return (output.images * 255).round().clip(0, 255).astype(np.uint8)  # type: ignore[no-any-return]


class StableGenerator:
    """A Stable Diffusion behind the generator tool: the same `draw` as our own small model's.

    `folder`: a checkpoint in diffusers' layout, or adapters of `finetune`, which name the checkpoint that they belong to.
    Raises BadInput.
    """

    def __init__(self, folder: Path) -> None:
        if (folder / ADAPTERS).is_file():
            self.pipeline = load(_base(folder), folder)
        else:
            self.pipeline = load(folder)

    def draw(self, texts: Sequence[str], seed: int = 0) -> np.ndarray:
        """N×H×W×3 uint8 RGB; picture k has the seed `seed` + k."""
        return draw(self.pipeline, texts, seed)


def is_stable(folder: Path) -> bool:
    """Whether a folder holds a Stable Diffusion or adapters of one, rather than our own small generator."""
    return (folder / "model_index.json").is_file() or (folder / ADAPTERS).is_file()


def _base(folder: Path) -> str:
    try:
        return str(json.loads((folder / "settings.json").read_text(encoding="utf-8"))["checkpoint"])
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"{folder} holds adapters, but no settings.json that names their `checkpoint`.") from error


def finetune(
    settings: StableTraining,
    items: Sequence[ClassifierItem],
    texts: Sequence[str],
    out: Path,
    log: Callable[[dict[str, Any]], None] | None = None,
    *,
    stop_at: int = 0,
) -> Path:
    """Tune the checkpoint's UNet to the pictures and their sentences; the VAE and the text encoder stay as they are.

    With `lora` the folder gets `pytorch_lora_weights.safetensors`, as diffusers' own tools read it; without, the whole pipeline.
    Interrupted trainings resume with the same call; `stop_at` ends one early. Returns the folder. Raises BadSettings, and
    BadInput for a checkpoint that cannot be read.
    """
    if len(items) != len(texts) or not items:
        raise BadSettings("as many sentences as pictures are needed, and at least one")
    task = StableTask(settings, items, texts)
    trained = fit(task, settings, out, log=log, stop_at=stop_at)
    if trained.finished:
        task.write(out)
        (out / "settings.json").write_text(json.dumps(settings.plain(), indent=1), encoding="utf-8")
    trained.remove_checkpoints()
    return out


class StableTask(Task):
    """The denoising loss of a Stable Diffusion's UNet; its adapters or all of it are trained, the last weights are kept."""

    def __init__(self, settings: StableTraining, items: Sequence[ClassifierItem], texts: Sequence[str]) -> None:
        from diffusers import DDPMScheduler

        torch.manual_seed(settings.seed)
        self.settings, self.texts = settings, texts
        self.pipeline = load(settings.checkpoint)
        for part in (self.pipeline.vae, self.pipeline.text_encoder, self.pipeline.unet):
            part.requires_grad_(False)
        if settings.lora:
            from peft import LoraConfig

            shape = LoraConfig(r=settings.lora, lora_alpha=settings.lora, init_lora_weights="gaussian", target_modules=ATTENTION)
            self.pipeline.unet.add_adapter(shape)
        else:
            self.pipeline.unet.requires_grad_(True)
        super().__init__(self.pipeline.unet)
        self.noise = DDPMScheduler.from_config(self.pipeline.scheduler.config)
        self.pictures = [squash(read_picture(i), settings.size) for i in items]
        self.side = settings.size // self.pipeline.vae_scale_factor
        self.data = fingerprint({"texts": list(texts), "pixels": [int(p.sum()) for p in self.pictures]})

    def batch(self, step: int, places: range) -> tuple[torch.Tensor, ...]:
        """(pictures N×3×S×S in −1…1, noise of the latents' shape, times, token ids)."""
        pictures, noises, times, texts = [], [], [], []
        shape = (self.pipeline.vae.config.latent_channels, self.side, self.side)
        for place in places:
            rng = np.random.default_rng((self.settings.seed, step, place))
            index = int(rng.integers(len(self.pictures)))
            texts.append("" if rng.random() < self.settings.no_text else self.texts[index])
            pictures.append(self.pictures[index][:, ::-1] if rng.random() < 0.5 else self.pictures[index])
            noises.append(rng.standard_normal(shape, np.float32))
            times.append(int(rng.integers(self.noise.config.num_train_timesteps)))
        tokenizer = self.pipeline.tokenizer
        ids = tokenizer(
            texts, padding="max_length", truncation=True, max_length=tokenizer.model_max_length, return_tensors="pt"
        ).input_ids
        pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
        return pixels, torch.from_numpy(np.stack(noises)), torch.tensor(times), ids

    def loss(self, model: torch.nn.Module, batch: Any) -> dict[str, torch.Tensor]:
        pixels, noise, times, ids = batch
        vae, text_encoder = self.pipeline.vae.to(pixels.device), self.pipeline.text_encoder.to(pixels.device)
        with torch.no_grad():
            latents = vae.encode(pixels).latent_dist.mean * vae.config.scaling_factor
            context = text_encoder(ids)[0]
        predicted = model(self.noise.add_noise(latents, noise, times), times, context).sample
        velocity = self.noise.config.prediction_type == "v_prediction"
        target = self.noise.get_velocity(latents, noise, times) if velocity else noise
        return {"loss": F.mse_loss(predicted.float(), target.float())}

    def write(self, out: Path) -> None:
        """The adapters, or the whole pipeline."""
        if not self.settings.lora:
            self.pipeline.save_pretrained(out, safe_serialization=True)
            return
        from diffusers.utils import convert_state_dict_to_diffusers
        from peft.utils import get_peft_model_state_dict

        layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(self.pipeline.unet))
        self.pipeline.save_lora_weights(out, unet_lora_layers=layers, safe_serialization=True)
