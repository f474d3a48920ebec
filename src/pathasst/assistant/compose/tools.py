"""What the assistant can do, from the registry; what a tool is called in a person's words; why one gave no result."""

from __future__ import annotations

from collections.abc import Mapping

from pathasst.assistant.compose.fixed import fixed
from pathasst.assistant.statements import Kind, Statement
from pathasst.core.records import ToolResult
from pathasst.tools.protocol import Registry

NAMES: Mapping[str, str] = {
    "ki67_cells": "the Ki67 count",
    "her2_cells": "the HER2 score",
    "pdl1_cells": "the PD-L1 score",
    "blood_cells": "the blood cell count",
    "lbc_classify": "the Bethesda class",
    "lbc_detect": "the search for abnormal cervical cells",
    "lbc_generate": "drawing a synthetic cell",
    "segment": "outlining",
    "he_nuclei": "the outlining of nuclei",
    "papers_search": "the literature search",
    "look": "the look at the picture",
    "similar_cases": "the search for similar cases",
    "glossary": "the glossary",
}


def name_of(tool: str) -> str:
    """A tool in a person's words."""
    return NAMES.get(tool, tool.replace("_", " "))


def capabilities(registry: Registry) -> list[Statement]:
    """Every tool that is on offer, with what it needs and whether it is validated, and those that are not here."""
    offered = {spec.name for spec in registry.offered()}
    statements = [fixed("I run specialist models on pathology pictures, look terms up in a glossary, and quote abstracts:")]
    for name, tool in registry.tools.items():
        if name in offered:
            card = tool.card
            doubt = "" if card.validated or not tool.needs_image else " Not validated."
            text = f"{name_of(name).removeprefix('the ').capitalize()}: {card.purpose} Needs: {card.expects}.{doubt}"
            statements.append(Statement(text=text, kind=Kind.TOOL, source=name, evidence=card.purpose, item=True))
    if absent := [name_of(n) for n in registry.tools if n not in offered]:
        statements.append(fixed(f"Not here, for lack of files: {', '.join(absent)} (`pathasst doctor` says what is missing)."))
    statements.append(fixed("I do not diagnose, grade or stage, and I say so when I cannot answer."))
    return statements


def failed(result: ToolResult) -> Statement:
    """Why a tool gave no result, without its internals."""
    reason = result.error.removesuffix(result.remedy).strip().removeprefix(f"{result.name}: ").replace(result.name, "it")
    name = name_of(result.name)
    return Statement(
        text=f"{name[0].upper()}{name[1:]} was not made: {reason}{'' if reason.endswith('.') else '.'}",
        kind=Kind.TOOL,
        source=result.name,
        evidence=result.error,
    )


def unavailable(tools: tuple[str, ...]) -> Statement:
    """That what is asked for is not on offer here."""
    names = " and ".join(name_of(t) for t in tools)
    return fixed(f"For this I would need {names}, which is not on offer here (`pathasst doctor` says what is missing).")
