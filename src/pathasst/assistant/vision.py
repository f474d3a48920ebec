"""`look`: how a brain without vision sees. The look states what it is sure of, PathAsst answers in words.

Knows PathAsst and the look. What they say is a small model's impression and labelled so; measuring is for the specialist tools.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pathasst.assistant.sanitize import as_data
from pathasst.core import weights
from pathasst.core.records import IMAGE, ToolResult, Turn
from pathasst.tools import guard
from pathasst.tools.look import LookArguments, numbers, text
from pathasst.tools.protocol import Tool, ToolCard

if TYPE_CHECKING:
    import numpy as np

PATHASST = "pathasst-embedded"


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
    weights = (PATHASST, *guard.NEEDS)

    def __init__(self) -> None:
        self._brain: Any = None

    def run(self, arguments: LookArguments, image: np.ndarray) -> ToolResult:
        """The look's statements first, then PathAsst's words, which nothing checked."""
        from pathasst.imaging.pictures import encode_png

        seen = guard.look(image)
        question = Turn(role="user", content=f"{IMAGE}\n{as_data(arguments.question)}")
        words = "" if seen.unlike else self._loaded().reply([question], [encode_png(image)], ()).content or "(nothing)"
        unchecked = f"\nPathAsst, unchecked: {words}" if words else ""
        return ToolResult(name=self.name, text=text(seen) + unchecked, numbers=numbers(seen))

    def _loaded(self) -> Any:
        if self._brain is None:
            from pathasst.assistant.brain import BrainSettings
            from pathasst.assistant.brains.local import LocalBrain

            self._brain = LocalBrain.open(BrainSettings(model=PATHASST, max_tokens=160))
        return self._brain

    def version(self) -> str:
        """Both models' versions."""
        return f"{weights.version(PATHASST)}, {weights.version(guard.WEIGHTS)}"
