"""Checks on what a splitter or a refiner made: words in the source's order, and no new finding, number or entity.

Knows text alone. Every splitter's answer passes here, the grammar's and a language model's alike; what fails is not used.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_WORD = re.compile(r"[^\W_]+(?:[.,]\d+)*")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)?")
_FREE_WORDS = """
a an the this that these those it its is are was were be been being has have had there here with without of in on at by for from
to into and or but as which who where when while than then can may we one image picture photomicrograph micrograph photograph view
field section figure panel shows show showing shown seen see visible depicts depicting demonstrates demonstrating displays
displaying reveals revealing illustrates illustrating presents appears appear also other both each all some several many few
"""
_FREE = frozenset(_FREE_WORDS.split())
_ENDINGS = ("ies", "es", "s", "ing", "ed", "ly", "al", "ic")


def words(text: str) -> list[str]:
    """The words of a text in lower case; punctuation is none."""
    return [w.lower() for w in _WORD.findall(text)]


def is_verbatim(part: str, source: str) -> bool:
    """Whether the words of `part` stand in `source` in the same order (a subsequence), with nothing added.

    A word may be glued to a neighbour in the source ("tissuesA) Expression"), as bad text extraction leaves it.
    """
    text, place = source.lower(), 0
    for word in words(part):
        place = _after(word, text, place)
        if place < 0:
            return False
    return True


def _after(word: str, text: str, place: int) -> int:
    """Where a word of the text ends, from `place` on, free of letters and digits on one side at least; -1 where it is not."""
    while (start := text.find(word, place)) >= 0:
        end = start + len(word)
        if not (text[start - 1 : start].isalnum() and text[end : end + 1].isalnum()):
            return end
        place = start + 1
    return -1


def new_facts(refined: str, source: Iterable[str] | str) -> list[str]:
    """Words of `refined` that state something the source does not: content words and numbers it does not hold.

    Function words and words of looking ("image", "shows") are free; endings are ignored, so "stained" is found in "staining".
    """
    text = source if isinstance(source, str) else " ".join(source)
    numbers = {n.replace(",", ".") for n in _NUMBER.findall(text)}
    source_stems = {_stem(w) for w in words(text)}
    new = []
    for word in words(refined):
        if _NUMBER.fullmatch(word):
            if word.replace(",", ".") not in numbers:
                new.append(word)
        elif word not in _FREE and _stem(word) not in source_stems:
            new.append(word)
    return list(dict.fromkeys(new))


def lost_negation(refined: str, source: str) -> bool:
    """Whether a "no", "not", "without", "negative" of a kept phrase went missing: the word that followed it is still there."""
    refined_words = words(refined)
    origin = words(source)
    for n, word in enumerate(origin[:-1]):
        if word in ("no", "not", "without", "negative", "absent", "lack") and word not in refined_words:
            after = [w for w in origin[n + 1 : n + 4] if w not in _FREE]
            if after and all(w in refined_words for w in after):
                return True
    return False


def _stem(word: str) -> str:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word[: -len(ending)].rstrip("aeiy")
    return word.rstrip("aeiy") if len(word) > 4 else word
