"""Checkpoints in a run's folder: `checkpoints/step-00000100`, and `checkpoints/best`. Knows states, no model.

A checkpoint is whole or not there. It is one file that holds plain tensors and numbers alone; of weights sharded over processes
(FSDP) it is a folder of torch.distributed.checkpoint, of which each process writes its own part.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from pathasst.core.errors import BadSettings
from pathasst.core.files import write_atomic

FOLDER, RUN = "checkpoints", "run.json"
State = dict[str, Any]


def path_of(out: Path, step: int) -> Path:
    """Where the checkpoint after `step` steps lies."""
    return out / FOLDER / f"step-{step:08d}"


def claim(out: Path, run: Mapping[str, Any]) -> None:
    """Write down what the run in a folder is, JSON values, or raise BadSettings where another was begun."""
    path, text = out / RUN, json.dumps(run, indent=1)
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != json.loads(text):
        raise BadSettings(f"{out} holds a run with other settings or data; choose another --out, or remove it.")
    write_atomic(path, text.encode())


def steps_saved(out: Path) -> list[int]:
    """Steps of the checkpoints in a run's folder, oldest first."""
    return sorted(int(p.name.removeprefix("step-")) for p in (out / FOLDER).glob("step-*") if p.suffix != ".new")


class Writer:
    """Writes the checkpoints of a run; every process has one, `main` is true on the first, and `wait` waits for all of them.

    In the `background` a thread writes a copy of the state while the training goes on. One checkpoint is written at a time, and
    until it is whole the one before stays.
    """

    def __init__(self, *, main: bool = True, wait: Callable[[], object] = lambda: None, background: bool = False) -> None:
        self.main, self.wait, self.background = main, wait, background
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint") if background else None
        self._pending: Future[None] | None = None
        self._group: Any = None  # of processes that agree in the background, apart from those that train

    def write(self, path: Path, state: State, *, then: Callable[[], object] = lambda: None) -> None:
        """Write a checkpoint; `then` follows on the first process once it is there. Raises what writing the one before raised."""
        self.finish()
        new = path.with_name(path.name + ".new")
        if self.main:
            new.parent.mkdir(parents=True, exist_ok=True)
            _remove(new)
        self.wait()
        sharded = _sharded(state)
        if sharded and self._thread:
            from torch import distributed

            self._group = self._group or distributed.new_group(backend="gloo")
        if self._thread and (sharded or self.main):
            state = _copied(state)

        def complete() -> None:
            if sharded:  # done on the first process once every process has written its part
                from torch.distributed import checkpoint

                checkpoint.save(state, checkpoint_id=new, process_group=self._group)
            elif self.main:
                torch.save(state, new)
            if self.main:
                _remove(path)
                new.rename(path)
                then()

        if self._thread:
            self._pending = self._thread.submit(complete)
        else:
            complete()
            self.wait()

    def finish(self) -> None:
        """Wait until the checkpoint that is being written is there. All processes must call it."""
        pending, self._pending = self._pending, None
        if pending:
            pending.result()
            self.wait()


def read(path: Path, state: State) -> State:
    """What a `Writer` wrote. `state` has the same keys and tensors of the same shapes, into which sharded parts are read."""
    if path.is_dir():
        from torch.distributed import checkpoint

        checkpoint.load(state, checkpoint_id=path)
        return state
    return torch.load(path, map_location="cpu", weights_only=True)  # type: ignore[no-any-return]


def full_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor that is sharded over processes put together; another as it is. All processes must call it."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor  # type: ignore[no-any-return]


def prune(out: Path, keep: int) -> None:
    """Remove all checkpoints but the newest `keep`; with none of them goes the folder, and the best weights in it."""
    steps = steps_saved(out)
    for step in steps[: len(steps) - keep]:
        _remove(path_of(out, step))
    if not keep:
        shutil.rmtree(out / FOLDER, ignore_errors=True)


def _copied(state: Any) -> Any:
    """The state with its tensors copied to the host's memory."""
    if isinstance(state, dict):
        return {name: _copied(value) for name, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(_copied(value) for value in state)
    return state.detach().to("cpu", copy=True) if isinstance(state, torch.Tensor) else state


def _sharded(state: Any) -> bool:
    if isinstance(state, dict):
        return any(_sharded(v) for v in state.values())
    return hasattr(state, "full_tensor")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
