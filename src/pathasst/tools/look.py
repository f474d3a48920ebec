"""`look`: what a picture shows – stain, preparation, organ, finding – with calibrated probabilities, or that it cannot tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from pathasst.core.records import ToolResult
from pathasst.imaging.pictures import require_side
from pathasst.tools import guard
from pathasst.tools.protocol import Arguments, Tool, ToolCard

if TYPE_CHECKING:
    import numpy as np

    from pathasst.nn.look import LookResult

LEAST_SIDE = 32
NAMES = {"stain": "Stain", "preparation": "Preparation", "organ": "Organ", "finding": "Finding"}


class LookArguments(Arguments):
    """What to look for; the picture is looked at as a whole either way."""

    question: str = Field(
        default="Describe the picture.", min_length=2, max_length=500, description="What you want to know about the picture."
    )


class Look(Tool[LookArguments]):
    """Heads on the features of PathCLIP's tower (`nn.look`)."""

    name = "look"
    card = ToolCard(
        purpose=(
            "Says what a picture shows: stain, kind of preparation, organ and whether it shows a malignant tumour, each with a "
            "probability, or that it cannot tell. Use it before a specialist tool; not for counting, grading or a diagnosis."
        ),
        expects="histology or cytology, any stain, one picture",
        licence="research use only (research sets among its data)",
        scores=(
            "unseen cases, grouped five-fold cross-validation, 3,243 pictures of 1,101 groups: see models/look-embedded/card.md"
        ),
        validated=True,
        limits="organ and finding are stated for few pictures; of an organ that it does not know it often cannot tell",
    )
    arguments = LookArguments
    weights = guard.NEEDS

    def run(self, arguments: LookArguments, image: np.ndarray) -> ToolResult:
        """See the card. Raises BadInput for a tiny picture."""
        require_side(image, LEAST_SIDE, "Looking")
        view = guard.look(image)
        warnings = []
        if view.distance > guard.BEYOND:
            warnings = ["The picture is unlike anything that the look was fitted on: nothing is stated of it."]
        elif view.unlike:
            warnings = ["The picture lies at the edge of what the look was fitted on: take what is said of it with doubt."]
        return ToolResult(name=self.name, text=text(view), numbers=numbers(view), warnings=warnings)


def numbers(view: LookResult) -> dict[str, Any]:
    """Plain values: each question's statement (None: cannot tell), its probability and all probabilities; the distance."""
    out: dict[str, Any] = {"unlike": view.unlike, "distance": round(view.distance, 2)}
    for name, answer in view.answers.items():
        stated = None if view.unlike else answer.choice
        out[name] = {"answer": stated, "probability": round(answer.probability, 3), "probabilities": answer.probabilities}
    return out


def text(view: LookResult) -> str:
    """One sentence a question."""
    if view.distance > guard.BEYOND:
        return f"This picture is unlike anything that the look was fitted on (distance {view.distance:.2f} of a limit of 1)."
    parts = [f"At the edge of what the look was fitted on (distance {view.distance:.2f} of a limit of 1)."] if view.unlike else []
    for name, answer in view.answers.items():
        (first, p), (second, q) = list(answer.probabilities.items())[:2]
        unsure = f"cannot tell (likeliest {first} {p:.0%}, then {second} {q:.0%})"
        parts.append(f"{NAMES.get(name, name)}: {unsure if answer.choice is None else f'{first} ({p:.0%})'}.")
    return " ".join(parts)
