"""The architecture of a CLIP and its folder: `open_clip_config.json` beside `model.safetensors`, in OpenCLIP's own notation.

Knows shapes, activation and preprocessing; knows nothing of training or of Hugging Face. The activation (QuickGELU or GELU) is
part of the stored configuration, since the wrong one runs without a word and only lowers the scores.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pathasst.core import weights
from pathasst.core.errors import BadInput, BadSettings, MissingWeights
from pathasst.core.files import write_atomic

if TYPE_CHECKING:
    import torch
    from torch import nn

CONFIG, WEIGHTS = "open_clip_config.json", "model.safetensors"
QUICK_GELU, GELU = "quick_gelu", "gelu"  # Hugging Face's names of the two activations
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # OpenAI CLIP
FROZEN_TEXT = "text.transformer."  # a pretrained text tower: kept out of our files, taken from its own weights
FROZEN_TOWER = "visual.trunk."  # a locked vision tower, likewise
REGISTRY = "pathasst:"  # `hf_model_name: pathasst:minilm` means the folder of these weights on this machine


@dataclass(frozen=True, slots=True)
class ClipConfig:
    """What is needed to rebuild a CLIP: OpenCLIP's `model_cfg`, and how pictures become tensors."""

    model: dict[str, Any]  # embed_dim, vision_cfg, text_cfg, quick_gelu
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    extra: dict[str, Any] = field(default_factory=dict)  # provenance: recipe, seed, steps
    interpolation: str = "bicubic"
    resize_mode: str = "shortest"  # shorter side to the size, then the centre; "squash": both sides to the size

    @property
    def activation(self) -> str:
        """`quick_gelu` or `gelu`."""
        return QUICK_GELU if self.model.get("quick_gelu") else GELU

    @property
    def image_size(self) -> int:
        return int(self.model["vision_cfg"]["image_size"])

    @property
    def patch_size(self) -> int:
        """Of a ViT, in px; a convolutional tower (timm) takes the whole picture as one patch."""
        vision = self.model["vision_cfg"]
        return self.image_size if vision.get("timm_model_name") else int(vision["patch_size"])

    @property
    def tower(self) -> str:
        """Id of the weights of a locked vision tower, which our files do not hold; empty: they hold the whole tower."""
        return str(self.extra.get("tower", ""))

    @property
    def has_hf_text(self) -> bool:
        return bool(self.model["text_cfg"].get("hf_model_name"))

    def with_bias(self) -> ClipConfig:
        """The same with a bias of the logits, for the sigmoid loss; it starts as SigLIP's (section 3.2) where none is set."""
        return replace(self, model={"init_logit_bias": -10.0, "init_logit_scale": math.log(10.0), **self.model})

    @classmethod
    def of_name(cls, name: str, activation: str) -> ClipConfig:
        """The configuration that OpenCLIP knows under a name, such as `ViT-B-16`, with the activation said out loud.

        Raises BadSettings for an unknown name, or when the name itself says another activation.
        """
        import open_clip

        model = open_clip.get_model_config(name)
        if model is None:
            raise BadSettings(f"OpenCLIP has no model {name!r}; `python -c 'import open_clip; print(open_clip.list_models())'`.")
        if model.get("quick_gelu") and activation != QUICK_GELU:
            raise BadSettings(f"{name} is a QuickGELU model, but activation {activation!r} was asked for.")
        if activation not in (QUICK_GELU, GELU):
            raise BadSettings(f"activation {activation!r} is unknown; choose {QUICK_GELU} or {GELU}.")
        return cls({**model, "quick_gelu": activation == QUICK_GELU})

    @classmethod
    def read(cls, folder: Path) -> ClipConfig:
        """Raises MissingWeights when the folder holds no configuration, BadInput when it does not say the activation."""
        path = folder / CONFIG
        if not path.is_file():
            raise MissingWeights(f"{folder} holds no {CONFIG}; give a folder that PathCLIP.save or OpenCLIP wrote.")
        stored = json.loads(path.read_text(encoding="utf-8"))
        model, pictures = stored["model_cfg"], stored.get("preprocess_cfg", {})
        if "quick_gelu" not in model:
            raise BadInput(f'{path} does not say whether the activation is QuickGELU; add "quick_gelu": true or false.')
        colours = tuple(pictures.get("mean", MEAN)), tuple(pictures.get("std", STD))
        geometry = {k: pictures[k] for k in ("interpolation", "resize_mode") if k in pictures}
        return cls(model, *colours, stored.get("pathasst", {}), **geometry)

    def write(self, folder: Path) -> None:
        geometry = {"interpolation": self.interpolation, "resize_mode": self.resize_mode}
        pictures = {"mean": list(self.mean), "std": list(self.std), **geometry}
        stored = {"model_cfg": self.model, "preprocess_cfg": pictures, "pathasst": self.extra}
        write_atomic(folder / CONFIG, json.dumps(stored, indent=1).encode())


def build(config: ClipConfig) -> nn.Module:
    """An OpenCLIP `CLIP`, or `CustomTextCLIP` when the text tower is a module of its own; fp32, fresh weights.

    A Hugging Face text tower keeps its pretrained weights and is frozen. Raises MissingWeights when they are not here,
    BadSettings for a CoCa, which writes captions.
    """
    from open_clip.model import CLIP, CustomTextCLIP

    from pathasst.nn import multiscale  # timm knows its tower from then on

    model = json.loads(json.dumps(config.model))
    if "multimodal_cfg" in model:
        raise BadSettings("a CoCa model is no CLIP: it has a decoder of captions.")
    custom = model.pop("custom_text", False)
    if config.has_hf_text:
        name = model["text_cfg"]["hf_model_name"]
        if name.startswith(REGISTRY):
            model["text_cfg"]["hf_model_name"] = str(weights.path(name.removeprefix(REGISTRY)))
        with weights.quiet():
            clip: nn.Module = CustomTextCLIP(**model)
        clip.text.transformer.requires_grad_(False)  # type: ignore[union-attr]
        clip.frozen_text = True  # type: ignore[assignment]
    else:
        clip = CustomTextCLIP(**model) if custom else CLIP(**model)
    if model["vision_cfg"].get("timm_model_name") == multiscale.NAME:
        clip.visual.head = multiscale.standardised(clip.visual.head)  # type: ignore[union-attr, arg-type]
    if config.tower:
        lock_tower(clip)
    return clip


def lock_tower(clip: Any) -> None:
    """Give a timm tower of EfficientNet-Lite0 its ImageNet weights, for good: they are neither trained nor saved."""
    from pathasst.nn.pretrained import efficientnet_lite0

    clip.visual.trunk.load_state_dict(efficientnet_lite0().state_dict())
    clip.visual.trunk.requires_grad_(False)
    clip.locked_tower = True


def tokenizer_of(config: ClipConfig) -> Any:
    """texts → int64 ids [n, context], cut at the context length: CLIP's byte pairs, or the Hugging Face tokenizer of the config.

    Raises MissingWeights when that tokenizer is neither here nor to be fetched.
    """
    import open_clip
    from open_clip.tokenizer import HFTokenizer

    text = config.model["text_cfg"]
    length = int(text.get("context_length", 77))
    name = text.get("hf_model_name") or text.get("hf_tokenizer_name")
    if not name:
        return open_clip.SimpleTokenizer(context_length=length, **text.get("tokenizer_kwargs", {}))
    folder = str(weights.path(name.removeprefix(REGISTRY))) if name.startswith(REGISTRY) else name
    try:
        return HFTokenizer(folder, context_length=length, **{"clean": "whitespace"} | text.get("tokenizer_kwargs", {}))
    except OSError as error:
        raise MissingWeights(f"the tokenizer {name} could not be fetched: {str(error).splitlines()[0]}") from error


def token_counter(config: ClipConfig) -> Callable[[str], int]:
    """text → how many tokens of the model's context it needs, start and end tokens included."""
    tokenizer = tokenizer_of(config)
    if hasattr(tokenizer, "tokenizer"):  # Hugging Face's
        return lambda text: len(tokenizer.tokenizer(text)["input_ids"])
    return lambda text: len(tokenizer.encode(text)) + 2


def own_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """The weights that are ours: all but a frozen pretrained text tower and a locked vision tower."""
    parts = {"frozen_text": FROZEN_TEXT, "locked_tower": FROZEN_TOWER}
    frozen = tuple(prefix for mark, prefix in parts.items() if getattr(model, mark, False))
    return {k: v.detach() for k, v in model.state_dict().items() if not k.startswith(frozen)}


def load_own_state(model: nn.Module, state: dict[str, torch.Tensor], source: str) -> None:
    """Load what `own_state` gave. Raises BadInput, naming the first keys, when weights are missing or do not fit."""
    expected = own_state(model)
    missing, extra = sorted(set(expected) - set(state)), sorted(set(state) - set(expected))
    wrong = [k for k in expected if k in state and expected[k].shape != state[k].shape]
    if missing or extra or wrong:
        raise BadInput(
            f"{source} does not fit its configuration: missing {missing[:3]}, unknown {extra[:3]}, other shape {wrong[:3]}."
        )
    model.load_state_dict({k: v.float() for k, v in state.items()}, strict=False)
