"""Low-rank adapters on the linear layers of an LLM (Hu et al. 2021), for training on two cores.

peft does the same (the tests hold the two equal), but passes every input through float32 and back, which costs a quarter of
a step on a CPU. `state` has peft's parameter names, so that `export` writes an adapter that peft and vLLM read. Knows
modules, no data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import nn
from torch.nn.functional import linear

from pathasst.core.errors import BadSettings

if TYPE_CHECKING:
    import torch


class LoraLinear(nn.Module):
    """y = W x + (alpha / rank) B A x, with W frozen; A random, B zero, so that it starts as W."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float, generator: torch.Generator) -> None:
        import torch

        super().__init__()
        self.base, self.scale = base, alpha / rank
        bound = math.sqrt(3 / base.in_features) * math.sqrt(1 / 3)
        down = (torch.rand(rank, base.in_features, generator=generator) * 2 - 1) * bound
        device = base.weight.device
        self.lora_A = nn.Parameter(down.to(device))  # rank × in, float32
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, rank, device=device))  # out × rank, float32

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        import torch

        out = self.base(x)
        low, up = linear(x, self.lora_A.to(x.dtype)), (self.lora_B * self.scale).to(x.dtype)
        flat: torch.Tensor = torch.addmm(out.reshape(-1, out.shape[-1]), low.reshape(-1, low.shape[-1]), up.T)
        return flat.view(out.shape)


def attach(llm: nn.Module, rank: int, alpha: float, modules: Sequence[str], seed: int = 0, bits: int = 16) -> int:
    """Replace the named linear layers by adapted ones, in place; returns how many.

    With `bits` 4 the frozen weights are kept in NF4 (QLoRA, Dettmers et al. 2023). Raises BadSettings without bitsandbytes, and
    for a name that no linear layer of `llm` has: an adapter that is nowhere would train nothing, and nobody would notice.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    linears = [(n, m, n.rsplit(".", 1)[-1]) for n, m in llm.named_modules() if isinstance(m, nn.Linear)]
    if unmatched := sorted(set(modules) - {last for _, _, last in linears}):
        names = ", ".join(sorted({last for _, _, last in linears}))
        raise BadSettings(f"lora: no linear layer of this LLM is called {', '.join(unmatched)}; it has {names}.")
    adapted = [(n, m) for n, m, last in linears if last in modules]
    for name, module in adapted:
        _replace(llm, name, LoraLinear(_four_bits(module) if bits == 4 else module, rank, alpha, generator))
    return len(adapted)


def quantise(llm: nn.Module, modules: Sequence[str]) -> None:
    """Keep the frozen weights of the named linear layers in NF4, in place. Raises BadSettings without bitsandbytes."""
    for name, module in list(llm.named_modules()):
        if isinstance(module, nn.Linear) and name.rsplit(".", 1)[-1] in modules:
            _replace(llm, name, _four_bits(module))


def _four_bits(layer: nn.Linear) -> nn.Linear:
    """The layer with its weights in NF4, 64 values a block, the blocks' scales in 8 bits; products in the weights' dtype."""
    try:
        import bitsandbytes as bnb
    except ImportError as error:
        raise BadSettings("lora.bits 4 needs bitsandbytes: pip install 'pathasst[qlora]'.") from error
    if isinstance(layer, bnb.nn.Linear4bit):
        return layer
    small = bnb.nn.Linear4bit(
        layer.in_features,
        layer.out_features,
        layer.bias is not None,
        compute_dtype=layer.weight.dtype,
        compress_statistics=True,
        quant_type="nf4",
        device="meta",
    )
    weight = layer.weight.detach()
    small.weight = bnb.nn.Params4bit(weight.cpu(), requires_grad=False, compress_statistics=True, quant_type="nf4")
    small.bias = layer.bias
    quantised: nn.Linear = small.to(weight.device)  # moving is what quantises
    return quantised


def state(llm: nn.Module) -> dict[str, torch.Tensor]:
    """The adapters by peft's names, without its prefix: `layers.0.self_attn.q_proj.lora_A.weight` …"""
    parameters = dict(llm.named_parameters())
    return {f"{n}.weight": p.detach() for n, p in parameters.items() if n.endswith(("lora_A", "lora_B"))}


def load_state(llm: nn.Module, adapters: Mapping[str, torch.Tensor]) -> None:
    """Fill attached adapters with stored ones (names of `state`), in place. Raises BadSettings when they do not fit."""
    import torch

    parameters = {f"{n}.weight": p for n, p in llm.named_parameters() if n.endswith(("lora_A", "lora_B"))}
    if adapters and {n: t.shape for n, t in adapters.items()} != {n: p.shape for n, p in parameters.items()}:
        raise BadSettings("the adapter to start from has another rank or other modules than phase 2 of this recipe.")
    with torch.no_grad():
        for name, tensor in adapters.items():
            parameters[name].copy_(tensor)


def add_state(llm: nn.Module, adapters: Mapping[str, torch.Tensor], scale: float) -> None:
    """Add stored adapters to the plain weights of `llm`, in place: what loading for use does."""
    import torch

    weights = dict(llm.named_parameters())
    with torch.no_grad():
        for name, down in adapters.items():
            if name.endswith(".lora_A.weight"):
                stem = name.removesuffix(".lora_A.weight")
                weight, up = weights[f"{stem}.weight"], adapters[f"{stem}.lora_B.weight"]
                weight.copy_(weight.float() + (up.float() @ down.float()) * scale)


def _replace(root: nn.Module, name: str, module: nn.Module) -> None:
    owner, _, last = name.rpartition(".")
    setattr(root.get_submodule(owner), last, module)
