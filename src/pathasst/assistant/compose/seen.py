"""Sentences from the look: what a picture shows, with calibrated probabilities, or that it cannot be told."""

from __future__ import annotations

from typing import Any

from pathasst.assistant.compose.wishes import Wishes
from pathasst.core.records import ToolResult
from pathasst.tools.guard import BEYOND

LEAST_AT_EDGE = 0.8
"""Probability from which stain and preparation are named of a picture beyond the limit, but not far beyond (`guard.BEYOND`)."""
_ORDER = ("stain", "preparation", "organ", "finding")
_CANNOT = {
    "stain": "The stain I cannot tell",
    "preparation": "The kind of preparation I cannot tell",
    "organ": "The organ I cannot tell",
    "finding": "Whether it shows a malignant tumour I cannot tell",
}


def look_sentences(result: ToolResult, wishes: Wishes) -> list[str]:
    """The sentences, the asked question first; all four where nothing in particular is asked."""
    numbers: dict[str, Any] = result.numbers
    named = [name for name, wish in zip(_ORDER, ("stain", "preparation", "organ", "malignant"), strict=True) if wish in wishes]
    first = named or list(_ORDER)
    distance, unlike = numbers["distance"], numbers["unlike"]
    if distance > BEYOND:
        return ["This picture is unlike any stained slide that the look was fitted on, so I can say nothing of what it shows."]
    sentences = []
    for name in [*first, *(n for n in _ORDER if n not in first and n in ("stain", "preparation"))]:
        if name not in numbers:
            continue
        answer = numbers[name]
        probabilities = list(answer["probabilities"].items())
        (likeliest, p), (second, q) = probabilities[0], probabilities[1]
        edge = unlike and name in ("stain", "preparation") and p >= LEAST_AT_EDGE
        stated = likeliest if edge else answer["answer"]
        sentences.append(_stated(name, stated, p, edge=edge) if stated else _unsure(name, likeliest, p, second, q))
    if unlike:
        sentences.append("The picture lies at the edge of what the look was fitted on, so take this with doubt.")
    return sentences


def _stated(name: str, stated: str, p: float, *, edge: bool) -> str:
    sure = f"probability {p:.2f}"
    likely = "is most likely" if edge else "is"
    return {
        "stain": f"The stain {likely} {stated} ({sure}).",
        "preparation": f"The preparation {likely} a {stated} ({sure}).",
        "organ": f"The organ {likely} the {stated} ({sure}).",
        "finding": f"The look's finding is: {stated} ({sure}); that is no diagnosis.",
    }[name]


def _unsure(name: str, likeliest: str, p: float, second: str, q: float) -> str:
    if name == "finding":
        return f"{_CANNOT[name]} from this picture with the models here (malignant tumour or not: {p:.2f} to {q:.2f})."
    return f"{_CANNOT[name]}: likeliest is {likeliest} ({p:.2f}), then {second} ({q:.2f})."
