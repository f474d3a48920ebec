"""One training on several processes (`torchrun`, `accelerate`): the LLM's layers sharded by FSDP, the rows of a step shared out.

`torchrun --nproc-per-node 8 -m pathasst.cli.main train mllm …`: each process reads its share of a step's rows, gradients are
summed, and the result is the one of a single process (tested on two CPU processes with gloo). Embedding, head, projector and
tower are whole on every device, and in phase 1, which trains nothing of it, so is the LLM. Knows modules and tensors; knows no
training loop. A process alone passes through untouched.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


def start(device: str) -> None:
    """Join the other processes that `torchrun` started, if any; of several GPUs each process takes the one of its number."""
    import torch
    import torch.distributed as dist

    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        if device == "cuda":  # not `cuda:1`, which names one
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        kind = device.partition(":")[0]
        dist.init_process_group("gloo" if kind == "cpu" else f"cpu:gloo,{kind}:nccl")  # losses are summed on the CPU


def world() -> tuple[int, int]:
    """This process's number and how many there are."""
    import torch.distributed as dist

    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


def shard(llm: Any) -> None:
    """Spread the weights of the decoder's layers over the processes, in place."""
    if world()[1] > 1:
        from torch.distributed.fsdp import fully_shard

        for layer in llm.layers:
            fully_shard(layer, reshard_after_forward=True)  # a layer is its own root here, for which the default is off


def share(rows: Sequence[T]) -> list[tuple[T, float]]:
    """This process's rows of a step, each with its weight: every process has equally many, padded by rows that weigh nothing.

    FSDP averages gradients over processes, so a weight is the number of processes.
    """
    rank, size = world()
    places = range(rank, -(-len(rows) // size) * size, size)
    return [(rows[n], float(size)) if n < len(rows) else (rows[0], 0.0) for n in places]


def average(parameters: Iterable[torch.Tensor]) -> None:
    """Average the gradients of parameters that are whole on every process, in place.

    A parameter without a gradient takes part with zeros: the rows of one process may hold no picture, and then its projector has
    none, while the others wait for it.
    """
    import torch
    import torch.distributed as dist

    size = world()[1]
    for parameter in parameters if size > 1 else ():
        if not hasattr(parameter, "full_tensor"):
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)
            parameter.grad.div_(size)


def clip(parameters: Iterable[torch.Tensor], most: float) -> None:
    """`clip_grad_norm_` for whole and sharded parameters together."""
    import torch

    grads = [p.grad for p in parameters if p.grad is not None]
    norm = torch.stack([whole(g.norm()).float() for g in grads]).norm()
    for grad in grads:
        grad.mul_(torch.clamp(most / (norm + 1e-6), max=1.0).to(grad.dtype))


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A sharded tensor put together; another as it is. All processes must call it."""
    made: torch.Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor  # type: ignore[operator]
    return made


def like(tensor: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """A whole tensor, sharded as `parameter` is."""
    if not hasattr(parameter, "full_tensor"):
        return tensor.to(parameter.device)
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(parameter.device), parameter.device_mesh, parameter.placements)  # type: ignore[attr-defined]


def sum_of(value: float) -> float:
    """A number summed over the processes."""
    import torch
    import torch.distributed as dist

    if world()[1] == 1:
        return value
    total = torch.tensor(value, dtype=torch.float64)
    dist.all_reduce(total)
    return float(total)
