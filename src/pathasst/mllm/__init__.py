"""Conversations → PathAsst: PathCLIP, one FC layer and an LLM as a Hugging Face LLaVA checkpoint, trained in two phases.

`from pathasst.mllm import PathAsst` loads nothing heavy until it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathasst.mllm.generate import PathAsst

__all__ = ["PathAsst"]


def __getattr__(name: str) -> Any:
    if name == "PathAsst":
        from pathasst.mllm.generate import PathAsst

        return PathAsst
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
