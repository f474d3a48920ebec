"""Reading CLIP weights from the formats they come in: ours, OpenCLIP's, Hugging Face's (PLIP), a bare checkpoint file.

Knows files and nothing of use or training. Pickles are read with `weights_only=True` alone.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pathasst.clip.build import CONFIG, GELU, QUICK_GELU, WEIGHTS, ClipConfig, build, load_own_state, own_state
from pathasst.core import checkpoints
from pathasst.core.errors import BadInput, BadSettings, MissingWeights

if TYPE_CHECKING:
    import torch
    from torch import nn

INDEX = "model.safetensors.index.json"
OPENCLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


def load_any(place: Path, *, activation: str = "", arch: str = "") -> tuple[nn.Module, ClipConfig]:
    """The OpenCLIP model and configuration at a folder or file. See `PathCLIPModel.load` for the formats and errors."""
    if place.is_file():
        model, config = _bare_checkpoint(place, activation, arch)
    elif (place / CONFIG).is_file():
        config = ClipConfig.read(place)
        model = build(config)
        load_own_state(model, _state(place, model), str(place))
    elif (place / "config.json").is_file():
        model, config = _huggingface(place)
    else:
        raise MissingWeights(f"{place} holds neither {CONFIG} nor a Hugging Face config.json.")
    if activation and activation != config.activation:
        raise BadSettings(f"{place} was trained with {config.activation}, but {activation} was asked for.")
    return model.eval(), config


def load_named(name: str, tag: str, *, activation: str = "") -> tuple[nn.Module, ClipConfig]:
    """One of OpenCLIP's pretrained models, such as `ViT-B-16`, `openai`; its activation is the one that it was trained with.

    Raises MissingWeights when OpenCLIP knows no such pair, or the file is neither in its cache nor to be fetched; BadSettings for
    the few whose text tower is a Hugging Face model (RoBERTa, NLLB) or that write captions (CoCa).
    """
    import open_clip

    about = open_clip.get_pretrained_cfg(name, tag)
    if not about:
        raise MissingWeights(f"{name}/{tag} is neither a path nor one of OpenCLIP's pretrained models.")
    config = ClipConfig.of_name(name, QUICK_GELU if about.get("quick_gelu") or name.endswith("quickgelu") else GELU)
    if config.has_hf_text:
        raise BadSettings(f"{name} has a Hugging Face text tower; only CLIP's own are read by name.")
    geometry = {k: about[k] for k in ("interpolation", "resize_mode") if k in about}
    config = replace(config, mean=tuple(about.get("mean", config.mean)), std=tuple(about.get("std", config.std)), **geometry)
    if activation and activation != config.activation:
        raise BadSettings(f"{name}/{tag} was trained with {config.activation}, but {activation} was asked for.")
    try:
        file = Path(open_clip.download_pretrained(about))
    except (OSError, RuntimeError, ValueError) as error:
        raise MissingWeights(f"{name}/{tag} could not be fetched: {str(error).splitlines()[0]}") from error
    model = build(config)
    load_own_state(model, read_state(file, model), str(file))
    return model.eval(), config


def _state(folder: Path, model: nn.Module) -> dict[str, torch.Tensor]:
    for name in (WEIGHTS, *OPENCLIP_WEIGHTS, INDEX):
        if (folder / name).is_file():
            return read_state(folder / name, model)
    raise MissingWeights(f"{folder} holds no weights; expected one of {', '.join((WEIGHTS, *OPENCLIP_WEIGHTS))}.")


def read_state(file: Path, model: nn.Module | None = None) -> dict[str, torch.Tensor]:
    """As `core.checkpoints.read_state`, for the names of `model` where one is given, without the mask that old files keep.

    Raises BadInput, also for a file that holds a vision tower alone or the names of Hugging Face's CLIP.
    """
    names = own_state(model) if model is not None else {}
    state = {k: v for k, v in checkpoints.read_state(file, names).items() if not k.endswith("attn_mask")}
    if names:
        bare = {k.removeprefix("visual.") for k in names} - set(names)  # names that a vision tower has without `visual.`
        text = [k for k in names if not k.startswith("visual.") and k in state]
        if len(bare & state.keys()) > len(bare) / 2 or (not text and any(k.startswith("visual.") for k in state)):
            raise BadInput(
                f"{file} holds a vision tower alone: its text tower is missing. Give the checkpoint of the whole CLIP."
            )
        if not text and any("vision_model." in k for k in state):
            raise BadInput(f"{file} has the names of Hugging Face's CLIP; give its folder with config.json, not the file alone.")
    return state


def _bare_checkpoint(file: Path, activation: str, arch: str) -> tuple[nn.Module, ClipConfig]:
    if not activation or not arch:
        raise BadSettings(
            f"{file} does not say its architecture and activation: give arch='ViT-B-16', activation='quick_gelu', or once "
            f"and for all: pathasst clip convert {file} OUT --to openclip --arch ViT-B-16 --activation quick_gelu"
        )
    config = ClipConfig.of_name(arch, activation)
    model = build(config)
    load_own_state(model, read_state(file, model), str(file))
    return model, config


def _huggingface(folder: Path) -> tuple[nn.Module, ClipConfig]:
    from transformers import CLIPModel

    from pathasst.clip.convert import from_huggingface

    kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    if kind != "clip":
        raise BadInput(f"{folder} holds a Hugging Face {kind!r} model, not a clip.")
    model, config = from_huggingface(CLIPModel.from_pretrained(folder, local_files_only=True))
    path = folder / "preprocessor_config.json"
    about = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    colours = tuple(about.get("image_mean", config.mean)), tuple(about.get("image_std", config.std))
    return model, replace(config, mean=colours[0], std=colours[1])
