"""The moving average of the weights that are trained. Knows tensors, no model's meaning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn


def learned(model: nn.Module) -> dict[str, torch.Tensor]:
    """What training changes, by name: the parameters that require a gradient, and the buffers. The tensors are its own."""
    parameters = {n: p.data for n, p in model.named_parameters() if p.requires_grad}
    return parameters | dict(model.named_buffers())


def copy_into(model: nn.Module, values: Mapping[str, torch.Tensor]) -> None:
    """Write `values` over the model's learned tensors of the same names."""
    with torch.no_grad():
        for name, tensor in learned(model).items():
            tensor.copy_(values[name])


class Ema:
    """average ← decay · average + (1 − decay) · weights after each step; early steps count more, as (1 + step) / (10 + step)."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.average = {name: tensor.detach().clone() for name, tensor in learned(model).items()} if decay else {}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after step `step` (0-based)."""
        if not self.decay:
            return
        now = learned(model)
        floats = [name for name, tensor in now.items() if tensor.is_floating_point()]
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_([self.average[n] for n in floats], [now[n] for n in floats], weight)
        for name in now.keys() - set(floats):
            self.average[name].copy_(now[name])

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """The model holds the average inside, and its own weights again afterwards."""
        if not self.decay:
            yield
            return
        own = {name: tensor.clone() for name, tensor in learned(model).items()}
        copy_into(model, self.average)
        try:
            yield
        finally:
            copy_into(model, own)
