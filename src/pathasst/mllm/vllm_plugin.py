"""What vLLM lacks to serve a PathAsst with the paper's single FC layer: the identity as the projector's activation.

vLLM calls `register` in each of its processes where this package is installed beside it (entry point `vllm.general_plugins`).
Written after vLLM 0.33's source; never run with a GPU.
"""

from __future__ import annotations


def register() -> None:
    """Teach vLLM the activation `linear` of LLaVA projectors."""
    from torch import nn
    from vllm.model_executor.layers import activation

    activation._ACTIVATION_REGISTRY["linear"] = nn.Identity
