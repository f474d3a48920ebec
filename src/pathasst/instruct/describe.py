"""Detailed descriptions: one of many instructions, answered by the caption (paper, step 4; training phase 1).

Knows pairs and `describe.yaml`. The answer is the caption itself, tidied: nothing is added to it.
"""

from __future__ import annotations

import re
from random import Random

from pathasst.core.errors import BadInput
from pathasst.core.records import IMAGE, Conversation, Mark, Pair, Turn
from pathasst.core.text import sentences
from pathasst.instruct.check import mentions_caption
from pathasst.instruct.wordings import Wordings, templates

_LEAD = re.compile(r"^\s*(?:fig(?:ure|\.)?\s*\w{1,4}\s*[.:)]\s*|\(?[A-Ha-h]\)\s*|[A-H][.:]\s+)+", re.IGNORECASE)
_VERB = re.compile(
    r"\b(?:shows?|showing|is|are|was|were|has|have|reveals?|demonstrates?|displays?|contains?|sees|stained)\b", re.IGNORECASE
)


def describe(pair: Pair, rng: Random, wordings: Wordings, *, text: str = "", by: str = "template") -> Conversation:
    """The pair's detailed description as a conversation of one question. `text` replaces the caption, when a model wrote it.

    Raises BadInput when the caption speaks of a caption or figure, so that nobody looking at the picture could say it.
    """
    answer = text or as_description(pair.caption)
    if mentions_caption(answer):
        raise BadInput("mentions-caption")
    template = rng.choice(templates(wordings.load("describe"), pair.split))
    question = template.fill(rng, wordings.slots(rng, pair.split))
    turns = [Turn(role="user", content=f"{IMAGE}\n{question}"), Turn(role="assistant", content=answer)]
    return conversation_of(pair, "describe", turns, Mark(step="instruct", by=by, note=template.text))


def conversation_of(pair: Pair, kind: str, turns: list[Turn], *marks: Mark, number: int = 0) -> Conversation:
    """A conversation about one pair; pair, group, split, source and trail come along."""
    return Conversation(
        conversation_id=f"{pair.pair_id}#{kind}" + (f"{number}" if number else ""),
        kind=kind,
        turns=turns,
        images=[pair.image] if pair.image else [],
        source=pair.source,
        pair_id=pair.pair_id,
        caption=pair.caption,
        panels=pair.panels,
        group=pair.group or pair.source.article_id,
        split=pair.split,
        trail=[*pair.trail, *marks],
    )


def as_description(caption: str) -> str:
    """The caption as something one says in front of the picture: no figure number, no panel letter, a whole sentence."""
    text = re.sub(r"\s+", " ", _LEAD.sub("", caption)).strip()
    if not text:
        return text
    if len(sentences(text)) == 1 and not _VERB.search(text):
        body = text.rstrip(". ")
        lowered = body if _starts_with_symbol(body) else body[:1].lower() + body[1:]
        text = f"This is {lowered}." if re.match(r"(?:an?|the) ", lowered) else f"The image shows {lowered}."
    text = text[:1].upper() + text[1:]
    return text if text[-1] in ".!?" else text + "."


def word_count(text: str) -> int:
    """Words as the paper's step 4 counts them: runs of non-space that hold a letter or digit."""
    return sum(any(c.isalnum() for c in word) for word in text.split())


def _starts_with_symbol(text: str) -> bool:
    first = text.split(" ", 1)[0]
    return sum(c.isupper() for c in first) > 1 or any(c.isdigit() for c in first)
