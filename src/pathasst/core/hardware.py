"""Which width of numbers pays on this machine. Every room may ask; knows no model."""

from __future__ import annotations

from pathlib import Path


def has_gpu() -> bool:
    """Whether an NVIDIA GPU is there, without importing torch."""
    return any(Path(driver).exists() for driver in ("/dev/nvidiactl", "/dev/dxg"))


def has_fast_bfloat16(device: str = "cpu") -> bool:
    """Whether bfloat16 is multiplied in hardware: a GPU, or a CPU with AMX or AVX512-BF16.

    Elsewhere torch emulates it, which is slower than float32.
    """
    import torch

    if device != "cpu":
        return device.startswith("cuda") and torch.cuda.is_bf16_supported()
    probes = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return any(probe is not None and probe() for probe in probes)
