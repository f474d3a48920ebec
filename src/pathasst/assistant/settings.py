"""The assistant's settings, as a recipe's `assistant.yaml` holds them. Knows the recipes' shape; opens nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from typing import Any

from pathasst.assistant.brain import BrainSettings, parse_brain
from pathasst.assistant.loop import Limits
from pathasst.errors import BadSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class AssistantSettings:
    """Which brain, and how much one question may cost."""

    brain: BrainSettings = field(default_factory=BrainSettings)
    limits: Limits = field(default_factory=Limits)


def load_settings(recipe: str = "embedded", brain: str = "") -> AssistantSettings:
    """A recipe's settings; `brain`, or else `$PATHASST_BRAIN`, in place of the recipe's brain. Raises BadSettings."""
    from pathasst.recipes import read_recipe

    values = read_recipe("assistant", recipe)
    if unknown := sorted(set(values) - {"brain", "limits"}):
        raise BadSettings(f"recipe {recipe}: unknown settings {', '.join(unknown)}; known: brain, limits.")
    chosen = brain or os.environ.get("PATHASST_BRAIN", "")
    mind = parse_brain(chosen) if chosen else _made(BrainSettings, values.get("brain") or {}, recipe)
    return AssistantSettings(brain=mind, limits=_made(Limits, values.get("limits") or {}, recipe))


def _made(kind: Any, values: Any, recipe: str) -> Any:
    known = {f.name for f in fields(kind)}
    if not isinstance(values, dict) or set(values) - known:
        raise BadSettings(f"recipe {recipe}: {kind.__name__} takes {', '.join(sorted(known))}; got {values!r}.")
    try:
        return kind(**values)
    except TypeError as error:
        raise BadSettings(f"recipe {recipe}: {kind.__name__}: {error}") from error
