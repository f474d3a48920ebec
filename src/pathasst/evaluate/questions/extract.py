"""Which option a reply chooses, by a strict rule and by the field's lenient one. Pure functions of text.

The lenient rule is that of MMMU, which many suites use: letters in brackets, else lone letters, else an option's
words, the last one named wins, and where there is none an option is drawn at random. A reply that answers nothing is so right
by chance, and one that names every option is right if the right one is last. The strict rule counts both as wrong.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random

from pathasst.evaluate.questions.item import LETTERS
from pathasst.llm.thoughts import split

_STARTS = re.compile(r"^\W*(?:the\s+)?(?:correct\s+|right\s+|final\s+)?(?:answer|option|choice)?\s*(?:is)?\s*[:\-]?\s*", re.I)
_LETTER = re.compile(r"\(?([A-Z])\)?(?:[.:,)\]]|\s*$|\s+[-–—])")
_STATED = re.compile(r"(?i:answer|option|choice)\s*(?i:is|:)\s*\**\(?([A-Z])\)?(?![A-Za-z'])")


def strict_choice(reply: str, choices: Sequence[str]) -> int | None:
    """The number of the one option that the reply commits itself to; None when there is none, or several.

    Accepted: a reply that begins with the letter ("B", "(B)", "B. …", "Answer: B"), that states it ("the answer is B"), or that
    is an option's text alone. Thoughts of a reasoning model do not count.
    """
    text = split(reply)[1].strip().strip("*").strip()
    allowed = LETTERS[: len(choices)]
    if stated := set(_STATED.findall(text)) & set(allowed):
        return allowed.index(stated.pop()) if len(stated) == 1 else None
    start = _STARTS.sub("", text, count=1).lstrip("*")
    if (match := _LETTER.match(start)) and match[1] in allowed:
        return allowed.index(match[1])
    same = [n for n, choice in enumerate(choices) if _words(choice) == _words(text)]
    return same[0] if len(same) == 1 else None


def lenient_choice(reply: str, choices: Sequence[str], seed: str) -> int:
    """MMMU's rule (see above); `seed` decides where the reply names no option."""
    text = f" {split(reply)[1].strip(',.!?;: ')} "
    allowed = LETTERS[: len(choices)]
    places = {n: text.rfind(f"({letter})") for n, letter in enumerate(allowed)}
    if max(places.values()) < 0:
        places = {n: text.rfind(f" {letter} ") for n, letter in enumerate(allowed)}
    if max(places.values()) < 0 and len(text.split()) > 5:
        places = {n: text.lower().rfind(choice.lower()) for n, choice in enumerate(choices)}
    if max(places.values()) < 0:
        return Random(seed).randrange(len(choices))
    return max(places, key=lambda n: places[n])


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
