"""Whether a picture is of the kind that a tool was made for, by the look. Knows kinds of pictures, no tool.

Without the look's weights, or with PATHASST_GUARD=off, every picture passes. A tool with weights of the user's own does not ask:
only the user knows what these were trained on.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import TYPE_CHECKING

from pathasst.core import weights
from pathasst.core.errors import BadInput

if TYPE_CHECKING:
    import numpy as np

    from pathasst.nn.look import LookResult

WEIGHTS = "look-embedded"
NEEDS = (WEIGHTS, "efficientnet-lite0")
FORCE = "PATHASST_GUARD=off runs it all the same."
BEYOND = 1.2
"""Times the distance limit from which on it declines. Below it warns: slides of other laboratories lie there."""
LEAST = 0.1
"""Probability of the tool's kinds below which it declines."""
DOUBT = 0.5
"""Probability below which it answers with a warning."""


def on() -> bool:
    """Whether pictures are looked at before a tool works on them."""
    return os.environ.get("PATHASST_GUARD", "on") != "off" and all(weights.present(id) for id in NEEDS)


def look(image: np.ndarray) -> LookResult:
    """What the look sees in a picture. Raises MissingWeights."""
    from pathasst.nn.look.model import load

    return load(WEIGHTS)([image])[0]


def require(image: np.ndarray, question: str, accepted: Collection[str], what: str) -> list[str]:
    """Warnings for the result; none where the picture is clearly one of the `accepted` classes of the look's `question`.

    Raises BadInput, with what the picture looks like, where it is hardly of these or unlike anything that the look was fitted on.
    """
    return judged(look(image), question, accepted, what) if on() else []


def judged(view: LookResult, question: str, accepted: Collection[str], what: str) -> list[str]:
    """As `require`, of a picture that was looked at."""
    kinds = ", ".join(sorted(accepted))
    unlike = _distance_doubts(view, what, kinds)
    shares = view.answers[question].probabilities
    share = sum(shares[k] for k in accepted)
    if share < LEAST:
        likeliest = next(iter(shares))
        raise BadInput(
            f"{what} needs a picture of {kinds}; this one looks like {likeliest} ({shares[likeliest]:.0%}).",
            remedy=FORCE,
        )
    if share < DOUBT:
        return [f"The picture hardly looks like {kinds} ({share:.0%})."]
    return unlike


def require_known(image: np.ndarray, what: str) -> list[str]:
    """A warning for the result where the picture lies at the edge of what the look was fitted on.

    Raises BadInput where it lies far beyond it, as photographs, charts and radiology do.
    """
    return _distance_doubts(look(image), what, "a stained slide") if on() else []


def _distance_doubts(view: LookResult, what: str, kinds: str) -> list[str]:
    if view.distance > BEYOND * view.far:
        raise BadInput(
            f"{what} needs a picture of {kinds}; this one is unlike any stained slide that the look knows "
            f"(distance {view.distance:.1f}, limit {BEYOND * view.far:.1f}).",
            remedy=FORCE,
        )
    return ["The picture is unlike those that the look was fitted on."] if view.unlike else []
