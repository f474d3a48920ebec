"""Weights that others saved: out of safetensors, their index of shards, or a torch file, under whatever wraps them.

Knows no model and no room. Training programs put weights below keys (`state_dict`, `model_ema` …) and put prefixes before their
names (`module.` by DDP, `_orig_mod.` by torch.compile, `model.` by Lightning). Nothing but tensors and plain values is unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pathasst.core.errors import BadInput

if TYPE_CHECKING:
    import torch

State = dict[str, "torch.Tensor"]
WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "net", "network", "weights")
AVERAGES = ("state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "ema")
"""Keys below which programs keep weights; an average is taken where nothing else is there."""
PREFIXES = ("module.", "_orig_mod.", "model.", "clip.", "network.", "net.", "ema.", "backbone.", "student.")
"""What wrappers put before every name of a checkpoint."""


def read_state(file: Path, names: Collection[str] = ()) -> State:
    """The tensors of a checkpoint file, by the names that the model itself gives.

    `names`: those of the model that the weights are for. They find the model's weights below any prefix and beside other weights
    (the loss of a Lightning module, an average); without them, prefixes that all names share are taken off.
    Raises BadInput for a file that is damaged, holds more than weights, or has no or several sets of these names, and says what
    was found.
    """
    state = unwrapped(_content(file), file)
    return _below_prefix(state, names, file) if names else without_shared_prefixes(state)


def unwrapped(content: Any, file: Path) -> State:
    """The one set of tensors in what a torch file holds. Raises BadInput, with the keys that were found, when there is none."""
    while isinstance(content, Mapping) and not _are_tensors(content):
        inner = {k: v for k, v in content.items() if isinstance(v, Mapping) and v and (_are_tensors(v) or _wraps(v))}
        wrapper = next((k for k in (*WRAPPERS, *AVERAGES) if k in inner), next(iter(inner)) if len(inner) == 1 else "")
        if not wrapper:
            keys = ", ".join(map(str, list(content)[:8]))
            raise BadInput(
                f"{file} is no state dict: looked below {', '.join((*WRAPPERS, *AVERAGES))}; it has {keys or 'nothing'}."
            )
        content = inner[wrapper]
    if not isinstance(content, Mapping) or not content:
        raise BadInput(f"{file} is no state dict, but holds {type(content).__name__}.")
    return dict(content)


def without_shared_prefixes(state: State) -> State:
    """The weights without the prefixes that all their names share."""
    while prefix := next((p for p in PREFIXES if all(k.startswith(p) for k in state)), ""):
        state = {k.removeprefix(prefix): v for k, v in state.items()}
    return state


def _below_prefix(state: State, names: Collection[str], file: Path) -> State:
    """The weights below the prefix under which most of `names` are found; the plain ones before an average's."""
    by_length = sorted(names, key=len)
    anchor = next((n for n in reversed(by_length) if any(k == n or k.endswith(f".{n}") for k in state)), None)
    if anchor is None:
        return without_shared_prefixes(state)  # the caller says what is missing
    prefixes = [k.removesuffix(anchor) for k in state if k == anchor or k.endswith(f".{anchor}")]
    fits = {p: sum(p + n in state for n in names) for p in prefixes}
    best = [p for p in prefixes if fits[p] == max(fits.values())]
    plain = [p for p in best if "ema" not in p.lower() and "teacher" not in p.lower()] or best
    if len(plain) > 1:
        raise BadInput(
            f"{file} holds these weights {len(plain)} times, below {', '.join(p or 'no prefix' for p in plain)}; keep one."
        )
    return {k.removeprefix(plain[0]): v for k, v in state.items() if k.startswith(plain[0])}


def _content(file: Path) -> Any:
    import argparse
    import pickle

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if file.suffix == ".json":
            names = sorted({Path(name).name for name in json.loads(file.read_text(encoding="utf-8"))["weight_map"].values()})
            if missing := [name for name in names if not (file.parent / name).is_file()]:
                raise BadInput(f"{file} names {len(names)} files of weights; {', '.join(missing[:3])} is not beside it.")
            return {k: v for name in names for k, v in unwrapped(_content(file.parent / name), file.parent / name).items()}
        if file.suffix == ".safetensors":
            return load_file(file)
        with torch.serialization.safe_globals([argparse.Namespace]):  # plain values, no code
            return torch.load(file, map_location="cpu", weights_only=True)
    except (
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
        SafetensorError,
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        OSError,
    ) as error:
        raise BadInput(f"{file} could not be read as plain weights: {_reason(file, error)}") from error


def _reason(file: Path, error: Exception) -> str:
    """Why a file of weights cannot be read, and what helps: from its first bytes, which say more than a reader's own words."""
    try:
        with file.open("rb") as opened:
            head = opened.read(200).lstrip()
    except OSError:
        return str(error)
    if not head:
        return "it is empty. Fetch it again."
    if head.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS; `git lfs pull` fetches the weights."
    if head.startswith(b"<"):
        return "it is a web page, as a server sends one for a refused download. Fetch it again."
    if "weights_only" in str(error) or "Weights only" in str(error):
        return (
            "it holds a program's own objects, such as a whole model. Save its `state_dict()` where it was trained; no code of a "
            "file is run here."
        )
    if head.startswith(b"PK") or "header" in str(error).lower():
        return "it is cut off or damaged. Fetch it again."
    return (str(error).splitlines() or ["damaged"])[0]


def _are_tensors(content: Mapping[Any, Any]) -> bool:
    import torch

    return bool(content) and all(isinstance(v, torch.Tensor) for v in content.values())


def _wraps(content: Mapping[Any, Any]) -> bool:
    """Whether a mapping holds tensors one level further down, under a known key."""
    return any(isinstance(content.get(k), Mapping) and _are_tensors(content[k]) for k in (*WRAPPERS, *AVERAGES))
