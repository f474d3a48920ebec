"""Conversations → PathAsst: PathCLIP, one FC layer and an LLM as a Hugging Face LLaVA checkpoint, trained in two phases.

`from pathasst.mllm import PathAsstModel` loads nothing heavy until it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathasst.mllm.generate import PathAsstModel

__all__ = ["PathAsstModel"]


def __getattr__(name: str) -> Any:
    if name == "PathAsstModel":
        from pathasst.mllm.generate import PathAsstModel

        return PathAsstModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
