"""Which width of numbers pays on this machine. Every room may ask; knows no model."""

from __future__ import annotations

from pathlib import Path

from pathasst.core.errors import BadSettings


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


def device_of(name: str = "auto") -> str:
    """`auto`: `cuda` where torch can use it, else `cpu`; other names as they are. Raises BadSettings for a missing GPU."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise BadSettings("device: there is no CUDA device that torch can use; set device: cpu.")
    return name


def uses_bfloat16(precision: str, device: str = "cpu") -> bool:
    """Whether a setting `precision` (auto, bf16, fp16, fp32) means bfloat16 on a device."""
    return precision == "bf16" or (precision == "auto" and has_fast_bfloat16(device))


def onnx_providers() -> list[str]:
    """Where ONNX Runtime computes, the quickest first: CUDA where the package `onnxruntime-gpu` is installed, else the CPU."""
    import onnxruntime

    available = onnxruntime.get_available_providers()
    return [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in available]
