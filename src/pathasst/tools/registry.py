"""The list of the tools: specs of the paper's nine for prompts and data generation, and a registry of those that work.

Knows where each tool's class lives, and nothing of what it does. Importing this module, listing specs and building the default
registry import neither torch nor a model: a tool loads its weights on its first call.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from pathasst.core import weights
from pathasst.core.errors import BadSettings, MissingWeights
from pathasst.core.records import ToolSpec
from pathasst.tools.protocol import Registry, Tool

CLASSES: dict[str, str] = {
    "lbc_classify": "pathasst.tools.lbc_classify:LbcClassify",
    "lbc_detect": "pathasst.tools.lbc_detect:LbcDetect",
    "blood_cells": "pathasst.tools.blood_cells:BloodCells",
    "lbc_generate": "pathasst.tools.lbc_generate:LbcGenerate",
    "her2_cells": "pathasst.tools.cells.her2:Her2Cells",
    "pdl1_cells": "pathasst.tools.cells.pdl1:Pdl1Cells",
    "ki67_cells": "pathasst.tools.cells.ki67:Ki67Cells",
    "segment": "pathasst.tools.segment:Segment",
    "papers_search": "pathasst.tools.papers_search:PapersSearch",
}
"""Name → "module:class", in the order of the paper's model zoo, with the literature last."""
FURTHER: dict[str, str] = {
    "he_nuclei": "pathasst.tools.he_nuclei:HeNuclei",
    "look": "pathasst.tools.look:Look",
    "similar_cases": "pathasst.tools.similar_cases:SimilarCases",
    "zoom": "pathasst.tools.zoom:Zoom",
}
"""Tools beside the paper's: nuclei in H&E, what a picture shows, a part of it. No conversation of PathInstruct calls them."""
SPECIALISTS = (*list(CLASSES)[:-1], "he_nuclei", list(CLASSES)[-1])
"""Names of the specialist models and the literature: what a person and every brain is offered."""


def tool_class(name: str) -> type[Tool[Any]]:
    """The class behind a name, without making one. Raises BadSettings for an unknown name."""
    try:
        module, cls = {**CLASSES, **FURTHER}[name].split(":")
    except KeyError:
        raise BadSettings(f"no tool is called {name!r}; the tools are: {', '.join([*CLASSES, *FURTHER])}") from None
    tool: type[Tool[Any]] = getattr(import_module(module), cls)
    return tool


def all_classes() -> list[type[Tool[Any]]]:
    """The classes of all that is offered."""
    return [tool_class(name) for name in SPECIALISTS]


def all_specs() -> list[ToolSpec]:
    """What each of the paper's nine tools is and takes, whether or not its weights are here."""
    return [tool_class(name).spec() for name in CLASSES]


def default_registry() -> Registry:
    """A registry of SPECIALISTS; none has loaded its model yet. `Registry.offered` leaves out tools without weights.

    `look` is made by name: a brain that sees does not need it.
    """
    registry = Registry()
    for cls in all_classes():
        registry.add(cls())
    return registry


def make(name: str, model: str | None = None) -> Tool[Any]:
    """A tool by name; `model`: the id or folder of other weights than the tool's own.

    Raises BadSettings for an unknown tool or model, MissingWeights when the weights are not here.
    """
    cls = tool_class(name)
    if model is not None:
        if model not in weights.registry():
            if not Path(model).is_dir():
                raise BadSettings(f"there is no folder {model}, nor a model of that name in `pathasst models list`.")
            model = str(Path(model).resolve())  # without a slash it would be taken for a name
        return cls(model)  # type: ignore[call-arg]
    if cls.weights and (missing := cls.missing()):
        raise MissingWeights(f"{name} needs weights that are not here: pathasst models pull {' '.join(missing)}")
    return cls()
