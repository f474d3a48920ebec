"""`look`: how a brain without vision sees. PathAsst answers a question about the picture, PathCLIP names the nearest tissue.

Knows PathAsst and PathCLIP. What they say is a small model's impression and labelled so; measuring is for the specialist tools.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from pathasst.assistant.sanitize import as_data
from pathasst.core import weights
from pathasst.core.records import IMAGE, ToolResult, Turn
from pathasst.tools.protocol import Arguments, Tool, ToolCard

if TYPE_CHECKING:
    import numpy as np

PATHASST, PATHCLIP = "pathasst-embedded", "pathclip-embedded"
PROMPTS = {
    "lung adenocarcinoma": "lung adenocarcinoma",
    "lung squamous cell carcinoma": "lung squamous cell carcinoma",
    "benign lung tissue": "benign lung tissue",
    "colon adenocarcinoma": "colon adenocarcinoma",
    "normal colon tissue": "normal colon mucosa",
    "cervical cytology": "liquid-based cervical cytology, Pap stain",
    "blood smear": "peripheral blood smear with red blood cells",
    "immunohistochemistry": "immunohistochemistry with brown DAB staining",
}
"""Name → what PathCLIP compares the picture with. Only these are compared: the nearest is not a diagnosis."""


class LookArguments(Arguments):
    """What to look for."""

    question: str = Field(
        default="Describe the picture.", min_length=2, max_length=500, description="What you want to know about the picture."
    )


class Look(Tool[LookArguments]):
    """A question about a picture to the models that see."""

    name = "look"
    card = ToolCard(
        purpose=(
            "Looks at the picture for you and answers a question about what it shows (tissue, stain, appearance). "
            "Use it whenever you need to know what is in the picture; not for counting or measuring."
        ),
        expects="histology or cytology, any stain",
        limits="A small model's impression; it is often wrong outside lung, colon, cervical cytology and blood.",
    )
    arguments = LookArguments
    weights = (PATHASST, PATHCLIP)

    def __init__(self) -> None:
        self._models: tuple[Any, Any, Any] | None = None

    def run(self, arguments: LookArguments, image: np.ndarray) -> ToolResult:
        """PathAsst's words and PathCLIP's three nearest names, with their shares of the softmax."""
        from pathasst.imaging.pictures import encode_png

        brain, clip, names = self._loaded()
        turn = brain.reply([Turn(role="user", content=f"{IMAGE}\n{as_data(arguments.question)}")], [encode_png(image)], ())
        shares = clip.classify([image], list(PROMPTS.values()))[0]
        nearest = sorted(zip(names, map(float, shares), strict=True), key=lambda pair: -pair[1])[:3]
        listed = ", ".join(f"{name} {100 * share:.0f} %" for name, share in nearest)
        return ToolResult(
            name=self.name,
            text=f"PathAsst says: {turn.content or '(nothing)'}\nPathCLIP, nearest of {len(PROMPTS)} names: {listed}.",
            numbers={"nearest": dict(nearest)},
        )

    def _loaded(self) -> tuple[Any, Any, Any]:
        if self._models is None:
            from pathasst.assistant.brain import BrainSettings
            from pathasst.assistant.brains.local import LocalBrain
            from pathasst.clip.model import PathCLIP

            brain = LocalBrain.open(BrainSettings(model=PATHASST, max_tokens=160))
            self._models = (brain, PathCLIP.load(PATHCLIP), list(PROMPTS))
        return self._models

    def version(self) -> str:
        """Both models' versions."""
        return f"{weights.version(PATHASST)}, {weights.version(PATHCLIP)}"
