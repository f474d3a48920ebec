"""Stable Diffusion through `diffusers` (paper, model zoo 4): load any checkpoint, fine-tune all of the UNet or low-rank adapters.

Knows image + text pairs, nothing of cells. Checkpoints are folders in diffusers' layout or single safetensors files; nothing is
fetched and nothing is unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from pathasst.core.errors import BadInput, BadSettings
from pathasst.core.recipes import load_recipe
from pathasst.nn.classifier.augment import squash
from pathasst.nn.classifier.items import Item, read_picture

ADAPTERS = "pytorch_lora_weights.safetensors"
ATTENTION = ["to_k", "to_q", "to_v", "to_out.0"]
"""The layers that low-rank adapters are put on, as is customary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StableSettings:
    """Fine-tuning; the defaults are those of diffusers' own text-to-image examples."""

    checkpoint: str = ""  # folder or single file of a Stable Diffusion
    lora: int = 16  # rank of the adapters; 0: all of the UNet is trained
    size: int = 512  # px
    steps: int = 4000
    batch: int = 4
    lr: float = 1e-4  # 1e-5 for a full fine-tuning
    unsaid: float = 0.1  # share without words, for classifier-free guidance
    save_every: int = 500
    seed: int = 0

    @classmethod
    def load(cls, recipe: Path) -> StableSettings:
        """From a YAML recipe (recipes/paper/generator.yaml). Raises BadSettings."""
        return load_recipe("generator", str(recipe), cls)


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
    given = {"height": size, "width": size} if size else {}
    found = pipeline(list(texts), num_inference_steps=steps, guidance_scale=guidance, generator=dice, output_type="np", **given)
    return (found.images * 255).round().clip(0, 255).astype(np.uint8)  # type: ignore[no-any-return]


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
    settings: StableSettings,
    items: Sequence[Item],
    texts: Sequence[str],
    out: Path,
    log: Callable[[dict[str, Any]], None] | None = None,
) -> Path:
    """Teach the checkpoint's UNet the pictures and their sentences; the VAE and the text encoder stay as they are.

    With `lora` the folder gets `pytorch_lora_weights.safetensors`, as diffusers' own tools read it; without, the whole pipeline.
    A killed run goes on from its last saved state. Returns the folder. Raises BadInput for a checkpoint that cannot be read.
    """
    if len(items) != len(texts) or not items:
        raise BadSettings("as many sentences as pictures are needed, and at least one")
    torch.manual_seed(settings.seed)
    out.mkdir(parents=True, exist_ok=True)
    pipeline = load(settings.checkpoint)
    unet, parameters = _prepare(pipeline, settings)
    optimiser = torch.optim.AdamW(parameters, settings.lr, weight_decay=1e-2)
    step = _resume(out, settings, parameters, optimiser)
    pictures = [squash(read_picture(i), settings.size) for i in items]
    while step < settings.steps:
        loss = _loss(pipeline, unet, pictures, texts, settings, step)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        step += 1
        if log and step % 20 == 0:
            log({"step": step, "loss": round(float(loss.detach()), 5)})
        if step % settings.save_every == 0:
            _save_state(out, settings, step, parameters, optimiser)
    _write(pipeline, unet, settings, out)
    (out / "settings.json").write_text(json.dumps(asdict(settings), indent=1), encoding="utf-8")
    (out / "state.pt").unlink(missing_ok=True)
    return out


def _prepare(pipeline: Any, settings: StableSettings) -> tuple[Any, list[torch.nn.Parameter]]:
    for part in (pipeline.vae, pipeline.text_encoder, pipeline.unet):
        part.requires_grad_(False)
    unet = pipeline.unet
    if settings.lora:
        from peft import LoraConfig

        shape = LoraConfig(r=settings.lora, lora_alpha=settings.lora, init_lora_weights="gaussian", target_modules=ATTENTION)
        unet.add_adapter(shape)
    else:
        unet.requires_grad_(True)
    unet.train()
    return unet, [p for p in unet.parameters() if p.requires_grad]


def _loss(
    pipeline: Any, unet: Any, pictures: Sequence[np.ndarray], texts: Sequence[str], settings: StableSettings, step: int
) -> torch.Tensor:
    """The denoising loss of one batch; every choice follows from (seed, step)."""
    from diffusers import DDPMScheduler

    rng, dice = np.random.default_rng((settings.seed, step)), torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
    chosen = rng.integers(0, len(pictures), settings.batch)
    said = ["" if rng.random() < settings.unsaid else texts[i] for i in chosen]
    views = [pictures[i][:, ::-1] if rng.random() < 0.5 else pictures[i] for i in chosen]
    device, noise = unet.device, DDPMScheduler.from_config(pipeline.scheduler.config)
    pixels = torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2).float().to(device) / 127.5 - 1
    with torch.no_grad():
        latents = pipeline.vae.encode(pixels).latent_dist.mean * pipeline.vae.config.scaling_factor
        ids = pipeline.tokenizer(
            said, padding="max_length", truncation=True, max_length=pipeline.tokenizer.model_max_length, return_tensors="pt"
        )
        context = pipeline.text_encoder(ids.input_ids.to(device))[0]
    grain = torch.randn(latents.shape, generator=dice).to(device)
    times = torch.randint(0, noise.config.num_train_timesteps, (len(latents),), generator=dice).to(device)
    found = unet(noise.add_noise(latents, grain, times), times, context).sample
    wanted = noise.get_velocity(latents, grain, times) if noise.config.prediction_type == "v_prediction" else grain
    return F.mse_loss(found.float(), wanted.float())


def _write(pipeline: Any, unet: Any, settings: StableSettings, out: Path) -> None:
    unet.eval()
    if not settings.lora:
        pipeline.save_pretrained(out, safe_serialization=True)
        return
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft.utils import get_peft_model_state_dict

    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(unet))
    pipeline.save_lora_weights(out, unet_lora_layers=layers, safe_serialization=True)


def _save_state(out: Path, settings: StableSettings, step: int, parameters: Sequence[torch.nn.Parameter], optimiser: Any) -> None:
    state = {
        "step": step,
        "parameters": list(parameters),
        "optimiser": optimiser.state_dict(),
        "settings": json.dumps(asdict(settings)),
    }
    torch.save(state, out / "state.pt.new")
    (out / "state.pt.new").replace(out / "state.pt")


def _resume(out: Path, settings: StableSettings, parameters: Sequence[torch.nn.Parameter], optimiser: Any) -> int:
    file = out / "state.pt"
    state = torch.load(file, weights_only=True) if file.is_file() else {"settings": ""}
    if state["settings"] != json.dumps(asdict(settings)):
        return 0
    with torch.no_grad():
        for own, saved in zip(parameters, state["parameters"], strict=True):
            own.copy_(saved)
    optimiser.load_state_dict(state["optimiser"])
    return int(state["step"])
