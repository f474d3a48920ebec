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
from pathasst.core.records import Picture, ToolResult
from pathasst.imaging.pictures import encode_png, load, require_side
from pathasst.imaging.tiles import plan
from pathasst.tools import guard
from pathasst.tools.protocol import Arguments, Tool, ToolCard

if TYPE_CHECKING:
    from pathasst.clip.atlas import Atlas, PictureEncoder, Similar

WEIGHTS = "atlas-embedded"
LEAST_SIDE = 32
VOTERS = 5  # cases that vote
FIELD = 300  # px of the pictures of the atlas; a picture of twice as many and more is compared in parts, too
PARTS = 9
RIGHT, BY_COLOUR, RIGHT_MAJORITY = 0.26, 0.10, 0.61
"""Share of fields of unseen cases whose nearest case is of the same organ, by these vectors and by colour alone, and of the
majority's organs that are right (models/atlas-embedded/card.md)."""


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
        expects="histology or cytology, any stain, one field",
        licence="CC BY 4.0: Histopathology Atlas (patolojiatlasi), doi:10.5281/zenodo.6382734",
        scores=(
            "fields of unseen cases: the nearest case has the same organ for 0.26 (95 % interval 0.19–0.33; by colour 0.10), "
            "one of the five nearest for 0.50 (0.35); 1,218 fields of 56 cases, each left out; the same diagnosis hardly ever"
        ),
        validated=True,
        limits="114 slides of 90 cases: most diseases are not among them, and the nearest case is then still shown",
    )
    arguments = SimilarCasesArguments
    weights = (WEIGHTS, "efficientnet-lite0")

    def __init__(self, model: str = "") -> None:
        self.model = model or os.environ.get("PATHASST_ATLAS", "") or WEIGHTS

    def version(self) -> str:
        """The atlas that answers, the user's own included."""
        return weights.version(self.model)

    def run(self, arguments: SimilarCasesArguments, image: np.ndarray) -> ToolResult:
        """See the card. Raises BadInput for a tiny picture, no stained slide, an atlas of another PathCLIP."""
        require_side(image, LEAST_SIDE, "The search for similar cases")
        warnings = guard.require_known(image, "the search for similar cases")
        atlas, encoder = opened(self.model)
        nearest = atlas.nearest(encoder.encode_image(views(image)), max(arguments.k, VOTERS))
        votes = {name: vote(nearest[:VOTERS], name) for name in ("organ", "diagnosis", "category")}
        cases, shared = nearest[: arguments.k], majority(votes)
        opinions = second_opinion(image, shared)
        numbers: dict[str, Any] = {
            "cases": [{**asdict(s.case), "similarity": round(s.similarity, 3)} for s in cases],
            "voters": min(len(nearest), VOTERS),
            "votes": votes,
            "majority": shared,
            "look": opinions,
        }
        pictures = [
            Picture(name=f"similar_{n}_{s.case.case}", image=encode_png(load(s.thumbnail))) for n, s in enumerate(cases, 1)
        ]
        sentences = text(cases, numbers["voters"], shared, opinions)
        return ToolResult(name=self.name, text=sentences, numbers=numbers, pictures=pictures, warnings=warnings)


@lru_cache(maxsize=2)
def opened(model: str) -> tuple[Atlas, PictureEncoder]:
    """An atlas and what makes vectors of it. Raises BadInput where its PathCLIP was trained anew since."""
    from pathasst.clip.atlas import Atlas

    atlas = Atlas.load(model)
    return atlas, atlas.encoder()


def views(image: np.ndarray) -> list[np.ndarray]:
    """The picture, and at most nine parts of a large one: a case is found by several of its fields more often than by one."""
    short = min(image.shape[:2])
    if short < 2 * FIELD:
        return [image]
    tiles = plan(image.shape[0], image.shape[1], max(FIELD, -(-short // 3)), 0)
    return [image, *(image[t.window] for t in tiles[:: -(-len(tiles) // PARTS)])]


def vote(nearest: list[Similar], name: str) -> dict[str, int]:
    """How many of the cases have each value, the most frequent first; cases that say nothing do not vote."""
    return dict(Counter(str(getattr(s.case, name)) for s in nearest if getattr(s.case, name)).most_common())


def majority(votes: dict[str, dict[str, int]]) -> dict[str, tuple[str, int]]:
    """What at least three cases share, with their number."""
    likeliest = {name: next(iter(values.items())) for name, values in votes.items() if values}
    return {name: (value, n) for name, (value, n) in likeliest.items() if 2 * n > VOTERS}


def second_opinion(image: np.ndarray, shared: dict[str, tuple[str, int]]) -> dict[str, Any]:
    """What the look holds for likeliest of what most cases share: organ and finding, each `answer`, `probability`, `agrees`."""
    if not guard.on():
        return {}
    answers, opinions = guard.look(image).answers, {}
    for question, name in (("organ", "organ"), ("finding", "category")):
        if name in shared:
            voted, likeliest = shared[name][0], next(iter(answers[question].probabilities))
            same = voted == likeliest if name == "organ" else ("malignant" in voted) == (likeliest == "malignant tumour")
            opinions[question] = {"answer": likeliest, "probability": round(answers[question].probability, 3), "agrees": same}
    return opinions


def text(cases: list[Similar], voters: int, shared: dict[str, tuple[str, int]], opinions: dict[str, Any]) -> str:
    """A line a case, what most of them share, and what the look holds for likeliest."""
    lines = [
        f"{n}. {(s.case.caption or s.case.diagnosis or s.case.case).rstrip('.')} (similarity {s.similarity:.2f}; {s.case.link})."
        for n, s in enumerate(cases, 1)
    ]
    voted = [f"{n} of the {voters} nearest have the {name} {value}." for name, (value, n) in shared.items()]
    beside = [
        f"The look {'agrees' if o['agrees'] else 'disagrees'}: its likeliest {q} is {o['answer']} ({o['probability']:.2f})."
        for q, o in opinions.items()
    ]
    licences = dict.fromkeys(s.case.licence for s in cases if s.case.licence)
    end = [*(voted or ["The nearest cases agree neither on organ nor on diagnosis."]), *beside, *licences]
    return "\n".join(["The most similar cases of the atlas:", *lines, " ".join(end)])
