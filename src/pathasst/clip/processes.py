"""One training on several processes: `torchrun --nproc-per-node N -m pathasst.cli.main train clip …`. Knows ranks, no model.

The process group is started by OpenCLIP's own launcher code; without `torchrun` there is one process and nothing is started.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


_WAITS = itertools.count()  # every process counts alike


@dataclass(frozen=True, slots=True)
class Processes:
    """This process among all."""

    rank: int = 0
    world: int = 1
    device: str = "cpu"

    @property
    def first(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """This process's part of `count` things, of which every process gets equally many."""
        each = count // self.world
        return slice(self.rank * each, (self.rank + 1) * each)

    def wait(self) -> None:
        """Until all processes are here, however long: the first may decode pictures for longer than a collective waits."""
        if self.world == 1:
            return
        from torch.distributed.distributed_c10d import _get_default_store

        store, name = _get_default_store(), f"pathasst/{next(_WAITS)}"
        if store.add(name, 1) == self.world:
            store.set(f"{name}/all", "here")
        store.wait([f"{name}/all"], timedelta(days=7))

    def together(self, module: nn.Module, *, unused: bool = False) -> nn.Module:
        """The module with gradients averaged over the processes; `unused`: some weights may have none in a step."""
        if self.world == 1:
            return module
        from torch.nn.parallel import DistributedDataParallel

        return DistributedDataParallel(module, find_unused_parameters=unused)


def join() -> Processes:
    """What `torchrun` started, one GPU a process (NCCL), or processors (gloo) where there is none."""
    import torch
    from open_clip_train.distributed import init_distributed_device_so

    wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if torch.distributed.is_initialized():
        return Processes(torch.distributed.get_rank(), torch.distributed.get_world_size(), wanted)
    found = init_distributed_device_so(device=wanted)
    return Processes(found["global_rank"], found["world_size"], str(found["device"]))
