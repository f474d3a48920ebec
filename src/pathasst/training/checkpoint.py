"""Checkpoints in a run's folder: `checkpoints/step-00000100`, and `checkpoints/best`. Knows states, no model.

A checkpoint is whole or not there. It is one file that holds plain tensors and numbers alone; of weights sharded over processes
(FSDP) it is a folder of torch.distributed.checkpoint, of which each process writes its own part.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

FOLDER = "checkpoints"
State = dict[str, Any]


def path_of(out: Path, step: int) -> Path:
    """Where the checkpoint after `step` steps lies."""
    return out / FOLDER / f"step-{step:08d}"


def steps_saved(out: Path) -> list[int]:
    """Steps of the checkpoints in a run's folder, oldest first."""
    return sorted(int(p.name.removeprefix("step-")) for p in (out / FOLDER).glob("step-*") if p.suffix != ".new")


def write(path: Path, state: State, *, main: bool = True, wait: Callable[[], object] = lambda: None) -> None:
    """Write a checkpoint; every process calls it, `main` is true on the first, and `wait` waits for all of them."""
    new = path.with_name(path.name + ".new")
    if main:
        new.parent.mkdir(parents=True, exist_ok=True)
        _remove(new)
    wait()
    if _sharded(state):
        from torch.distributed import checkpoint

        checkpoint.save(state, checkpoint_id=new)
    elif main:
        torch.save(state, new)
    wait()
    if main:
        _remove(path)
        new.rename(path)
    wait()


def read(path: Path, state: State) -> State:
    """What `write` wrote. `state` has the same keys and tensors of the same shapes, into which sharded parts are read."""
    if path.is_dir():
        from torch.distributed import checkpoint

        checkpoint.load(state, checkpoint_id=path)
        return state
    return torch.load(path, map_location="cpu", weights_only=True)  # type: ignore[no-any-return]


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor that is sharded over processes put together; another as it is. All processes must call it."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor  # type: ignore[no-any-return]


def prune(out: Path, keep: int) -> None:
    """Remove all checkpoints but the newest `keep`; with none of them goes the folder, and the best weights in it."""
    steps = steps_saved(out)
    for step in steps[: len(steps) - keep]:
        _remove(path_of(out, step))
    if not keep:
        shutil.rmtree(out / FOLDER, ignore_errors=True)


def _sharded(state: Any) -> bool:
    if isinstance(state, dict):
        return any(_sharded(v) for v in state.values())
    return hasattr(state, "full_tensor")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
