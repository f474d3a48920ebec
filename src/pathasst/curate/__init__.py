"""Figures → pairs of picture and text (PathCap): select, panels, captions, align, quality, leakage.

`run` is the whole stage; each step is a module of its own and works alone. Knows `records`, `dataset`, `weights` and `llm`;
PathCLIP lives in a room to the right and comes in as a function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathasst.curate.pipeline import run
    from pathasst.curate.report import write_report
    from pathasst.curate.settings import CurateSettings

_WHERE = {"run": "pipeline", "CurateSettings": "settings", "write_report": "report"}


def __getattr__(name: str) -> Any:
    """The room's public names, imported when first used: `pathasst --help` must not wait for numpy and torch."""
    if name in _WHERE:
        from importlib import import_module

        return getattr(import_module(f"pathasst.curate.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'pathasst.curate' has no attribute {name!r}")


__all__ = ["CurateSettings", "run", "write_report"]
