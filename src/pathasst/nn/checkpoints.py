"""Checkpoints of our networks: fp16 with the settings in the header, and starting from others. Knows no network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from pathasst.core.errors import BadInput


def save_fp16(state: dict[str, torch.Tensor], settings: dict[str, Any], folder: Path, **notes: Any) -> Path:
    """Write the weights as fp16, with `settings` and `notes` in the header; returns the file."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    weights = {k: (v.half() if v.is_floating_point() else v).cpu().contiguous() for k, v in state.items()}
    metadata = {"settings": json.dumps(settings), **{k: str(v) for k, v in notes.items()}}
    save_file(weights, folder / "model.safetensors", metadata)
    return folder / "model.safetensors"


def load_fp16(folder: Path, what: str, saver: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The settings and the weights, in float32. `what`: how a message names the checkpoint; `saver`: what writes one.

    Raises BadInput for a file that is none.
    """
    from safetensors import SafetensorError, safe_open

    file = folder / "model.safetensors"
    try:
        with safe_open(file, "pt") as content:
            settings = json.loads((content.metadata() or {}).get("settings", "null"))
            state = {key: content.get_tensor(key) for key in content.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise BadInput(f"{file} is {what}: {error}") from error
    if not settings:
        raise BadInput(f"{file} carries no settings in its header; save it with {saver}")
    return settings, {k: v.float() if v.is_floating_point() else v for k, v in state.items()}


def load_matching(network: torch.nn.Module, state: dict[str, torch.Tensor], source: str, name: str = "the backbone") -> int:
    """Load the tensors of `state` that the network has in the same shape; the others stay fresh. Returns how many these are.

    `source` and `name`: how a message calls the weights and the network. Raises BadInput when less than half of it fits.
    """
    own = network.state_dict()
    matching = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    if len(matching) < len(own) / 2:
        raise BadInput(f"{source} fits {len(matching)} of the {len(own)} tensors of {name}; is it another network's?")
    network.load_state_dict(matching, strict=False)
    return len(matching)
