"""`similar_cases`: the nearest cases of an atlas with picture, diagnosis, link and licence: evidence that can be checked."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import asdict
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from pathasst.core import weights
from pathasst.core.errors import BadInput
from pathasst.core.records import Picture, ToolResult
from pathasst.imaging.pictures import encode_png, load, require_side
from pathasst.tools import guard
from pathasst.tools.protocol import Arguments, Tool, ToolCard

if TYPE_CHECKING:
    from pathasst.clip.atlas import Atlas, Similar
    from pathasst.clip.model import DualEncoder

WEIGHTS = "atlas-embedded"
LEAST_SIDE = 32
VOTERS = 5  # cases that vote


class SimilarCasesArguments(Arguments):
    """How many cases to bring."""

    k: int = Field(default=3, ge=1, le=10, description="How many cases to return.")


class SimilarCases(Tool[SimilarCasesArguments]):
    """`model`: id or folder of an atlas (`pathasst atlas build`); default: the folder in PATHASST_ATLAS, else the shipped one."""

    name = "similar_cases"
    card = ToolCard(
        purpose=(
            "Finds the cases of a pathology atlas whose pictures look most like this one, with diagnosis, organ, caption and a "
            "link to the slide. Use it for comparison or a second opinion; it is no diagnosis."
        ),
        expects="histology or cytology, one field",
        licence="CC BY 4.0: Histopathology Atlas (patolojiatlasi); vectors: research use only",
        scores="unseen cases: see models/atlas-embedded/card.md",
        validated=True,
        limits="114 slides of 90 cases: most diseases are not among them, and the nearest is then still shown",
    )
    arguments = SimilarCasesArguments
    weights = (WEIGHTS, "pathclip-lite", "efficientnet-lite0", "minilm")

    def __init__(self, model: str = "") -> None:
        self.model = model or os.environ.get("PATHASST_ATLAS", "") or WEIGHTS

    def version(self) -> str:
        """The atlas that answers, the user's own included."""
        return weights.version(self.model)

    def run(self, arguments: SimilarCasesArguments, image: np.ndarray) -> ToolResult:
        """See the card. Raises BadInput for a tiny picture, and for an atlas of another PathCLIP."""
        require_side(image, LEAST_SIDE, "The search for similar cases")
        atlas, clip = opened(self.model)
        nearest = atlas.nearest(clip.encode_image([image])[0], max(arguments.k, VOTERS))
        votes = {name: vote(nearest[:VOTERS], name) for name in ("organ", "diagnosis", "category")}
        top = nearest[: arguments.k]
        numbers: dict[str, Any] = {
            "cases": [{**asdict(s.case), "similarity": round(s.similarity, 3)} for s in top],
            "votes": votes,
        }
        pictures = [Picture(name=f"similar_{n}", image=_png(s.thumbnail)) for n, s in enumerate(top, 1)]
        return ToolResult(
            name=self.name,
            text=text(top, votes),
            numbers=numbers,
            pictures=pictures,
            warnings=doubts(image, votes),
        )


@lru_cache(maxsize=2)
def opened(model: str) -> tuple[Atlas, DualEncoder]:
    """An atlas and the PathCLIP of its vectors. Raises BadInput where that PathCLIP was trained anew since."""
    from pathasst.clip.atlas import Atlas
    from pathasst.clip.onnx import load

    atlas = Atlas.load(model)
    clip = load(atlas.model)
    if atlas.vectors.shape[1] != clip.encode_image([]).shape[1]:
        raise BadInput(f"the atlas {model} holds vectors of another {atlas.model}; build it again (`pathasst atlas build`).")
    return atlas, clip


def vote(nearest: list[Similar], name: str) -> dict[str, float]:
    """Shares of the values that the cases have, the most frequent first; cases that say nothing do not vote."""
    values = Counter(str(getattr(s.case, name)) for s in nearest if getattr(s.case, name))
    total = sum(values.values())
    return {value: round(n / total, 2) for value, n in values.most_common()}


def doubts(image: np.ndarray, votes: dict[str, dict[str, float]]) -> list[str]:
    """Where the look and the vote of the neighbours disagree, or the picture is like nothing known."""
    if not guard.on():
        return []
    view = guard.look(image)
    if view.unlike:
        return ["The picture is unlike anything that was trained on: the cases are the nearest, not near."]
    organ, cases = view.answers["organ"].choice, votes["organ"]
    if organ and cases and next(iter(cases)) != organ:
        return [f"The look says {organ}; most of the similar cases are of {next(iter(cases))}."]
    return []


def text(cases: list[Similar], votes: dict[str, dict[str, float]]) -> str:
    """A line a case, and the vote."""
    lines = [
        f"{n}. {s.case.caption or s.case.diagnosis or s.case.case} "
        f"(similarity {s.similarity:.2f}; {s.case.link}; {s.case.licence})"
        for n, s in enumerate(cases, 1)
    ]
    voted = [f"{name} {next(iter(v))} ({next(iter(v.values())):.0%})" for name, v in votes.items() if v]
    return "\n".join(
        ["The most similar cases of the atlas:", *lines, f"Vote of the {VOTERS} nearest: {', '.join(voted) or 'none'}."]
    )


def _png(jpeg: bytes) -> bytes:
    return encode_png(load(jpeg))
