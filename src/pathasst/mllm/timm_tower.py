"""A pathology foundation model in timm's layout (UNI, UNI 2, Virchow 2, H-optimus …) as a vision tower of transformers.

Such a folder holds `config.json` with timm's `architecture` and `model_args`, and the weights of a plain ViT; those of CONCH and
KEEP, whose ViT is part of a larger model, need that file written beside them. A ViT with layer scale, registers and SwiGLU is
what transformers calls DINOv2 (with registers): the weights get its names, the outputs stay.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pathasst.core.checkpoints import read_state
from pathasst.core.errors import BadSettings

if TYPE_CHECKING:
    import torch

FILES = ("model.safetensors", "pytorch_model.bin")
PARTS = ("", "trunk.", "visual.", "visual.trunk.", "model.")
"""What stands before the ViT's names in a larger model: KEEP `visual.`, CONCH `visual.trunk.`."""
BLOCK = {
    "norm1": "norm1",
    "norm2": "norm2",
    "attn.proj": "attention.o_proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
"""timm's name inside a block → transformers'."""


def is_timm(config: dict[str, Any]) -> bool:
    """Whether a `config.json` is timm's."""
    return "architecture" in config and "hidden_size" not in config


def load(folder: Path) -> tuple[Any, Any]:
    """The tower and its image processor. Raises BadSettings for another architecture, BadInput for damaged weights."""
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model
    from transformers import Dinov2WithRegistersConfig as WithRegistersConfig
    from transformers import Dinov2WithRegistersModel as WithRegisters

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    file = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if file is None:
        raise BadSettings(f"{folder} holds none of {', '.join(FILES)}.")
    state = _vit(read_state(file))
    about = config.get("pretrained_cfg", config)
    side = int(about.get("input_size", (3, 224, 224))[-1])
    registers = state["reg_token"].shape[1] if "reg_token" in state else 0
    try:
        sizes = _sizes(state, config, side)
        renamed = _renamed(state, sizes["use_swiglu_ffn"])
    except KeyError as error:
        raise BadSettings(f"{folder}: {config['architecture']} is no plain ViT, it lacks {error}.") from error
    if registers:
        tower: Any = WithRegisters(WithRegistersConfig(num_register_tokens=registers, **sizes))
    else:
        tower = Dinov2Model(Dinov2Config(**sizes))
    renamed["embeddings.mask_token"] = tower.state_dict()["embeddings.mask_token"]
    try:
        tower.load_state_dict(renamed)
    except RuntimeError as error:
        raise BadSettings(f"{folder}: {config['architecture']} is no ViT of DINOv2's kind: {error}") from error
    resized = round(side / float(about.get("crop_pct", 1.0)))
    processor = BitImageProcessor(
        size={"shortest_edge": resized},
        crop_size={"height": side, "width": side},
        image_mean=list(about.get("mean", (0.485, 0.456, 0.406))),
        image_std=list(about.get("std", (0.229, 0.224, 0.225))),
        resample=2 if about.get("interpolation") == "bilinear" else 3,
    )
    return tower.eval(), processor


def _vit(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of the ViT alone, by its own names."""
    part = next((p for p in PARTS if f"{p}patch_embed.proj.weight" in state), "")
    return {name.removeprefix(part): tensor for name, tensor in state.items() if name.startswith(part)}


def _sizes(state: dict[str, torch.Tensor], config: dict[str, Any], side: int) -> dict[str, Any]:
    """Arguments of transformers' configuration, read off the weights; the number of heads alone is timm's to say."""
    width, _, patch, _ = state["patch_embed.proj.weight"].shape
    hidden, out = state["blocks.0.mlp.fc1.weight"].shape[0], state["blocks.0.mlp.fc2.weight"].shape[1]
    gated = hidden == 2 * out
    ratio = 4 if gated else hidden // width
    expected = (int(width * ratio * 2 / 3) + 7) // 8 * 8 if gated else width * ratio
    if expected != out:
        raise BadSettings(f"{config['architecture']}: an inner width of {out} for {width} has no place in transformers' DINOv2.")
    return {
        "hidden_size": width,
        "num_hidden_layers": 1 + max(int(k.split(".")[1]) for k in state if k.startswith("blocks.")),
        "num_attention_heads": _heads(config),
        "mlp_ratio": ratio,
        "use_swiglu_ffn": gated,
        "image_size": side,
        "patch_size": patch,
    }


def _heads(config: dict[str, Any]) -> int:
    """Of the attention: as the folder says, or as timm builds the architecture (without weights)."""
    arguments = config.get("model_args", {})
    if "num_heads" in arguments:
        return int(arguments["num_heads"])
    import timm
    import torch

    try:
        with torch.device("meta"):
            model: Any = timm.create_model(config["architecture"], pretrained=False)
    except RuntimeError as error:
        raise BadSettings(f"timm knows no architecture {config['architecture']!r}: {error}") from error
    if not hasattr(model, "blocks"):
        raise BadSettings(f"{config['architecture']} is no plain ViT.")
    return int(model.blocks[0].attn.num_heads)


def _renamed(state: dict[str, torch.Tensor], gated: bool) -> dict[str, torch.Tensor]:
    import torch

    positions, registers = state["pos_embed"], state.get("reg_token")
    first = _before_patches(positions.shape[1], 0 if registers is None else registers.shape[1])
    if first == 0:
        positions = torch.cat([torch.zeros_like(positions[:, :1]), positions], dim=1)
    elif first > 1 and registers is not None:  # transformers' registers have no positions, so theirs are added once and for all
        registers = registers + positions[:, 1:first]
        positions = torch.cat([positions[:, :1], positions[:, first:]], dim=1)
    renamed = {
        "embeddings.cls_token": state["cls_token"],
        "embeddings.position_embeddings": positions,
        "embeddings.patch_embeddings.projection.weight": state["patch_embed.proj.weight"],
        "embeddings.patch_embeddings.projection.bias": state["patch_embed.proj.bias"],
        "layernorm.weight": state["norm.weight"],
        "layernorm.bias": state["norm.bias"],
    }
    if registers is not None:
        renamed["embeddings.register_tokens"] = registers
    for number in sorted({int(k.split(".")[1]) for k in state if k.startswith("blocks.")}):
        renamed |= _block(state, f"blocks.{number}.", f"encoder.layer.{number}.", gated)
    return renamed


def _before_patches(positions: int, registers: int) -> int:
    """How many of the positions are of no patch: none, the class token's, or those of class token and registers."""
    squares = {n * n for n in range(1, math.isqrt(positions) + 1)}
    return next((n for n in (0, 1, 1 + registers) if positions - n in squares), 0)


def _block(state: dict[str, torch.Tensor], theirs: str, ours: str, gated: bool) -> dict[str, torch.Tensor]:
    import torch

    renamed: dict[str, torch.Tensor] = {}
    width = state[f"{theirs}norm1.weight"].shape[0]
    for kind in ("weight", "bias"):
        for name, own in BLOCK.items():
            renamed[f"{ours}{own}.{kind}"] = state[f"{theirs}{name}.{kind}"]
        for part, values in zip("qkv", state[f"{theirs}attn.qkv.{kind}"].chunk(3), strict=True):
            renamed[f"{ours}attention.{part}_proj.{kind}"] = values
        if gated:
            gate, up = renamed.pop(f"{ours}mlp.fc1.{kind}").chunk(2)
            renamed |= {f"{ours}mlp.gate_proj.{kind}": gate, f"{ours}mlp.up_proj.{kind}": up}
            renamed[f"{ours}mlp.down_proj.{kind}"] = renamed.pop(f"{ours}mlp.fc2.{kind}")
    for n in (1, 2):
        renamed[f"{ours}layer_scale{n}.lambda1"] = state.get(f"{theirs}ls{n}.gamma", torch.ones(width))
    return renamed
