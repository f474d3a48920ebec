"""What of a result a question asks for (counts, shares, density, whether it is high …), and what kind of question it is.

The words are in `words.yaml`. Which tool runs is decided elsewhere (`router`); a wish that is overlooked here costs the order of
the sentences, no number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True, slots=True)
class Wishes:
    """`"count" in Wishes.of(question)`: what the words ask for."""

    names: frozenset[str]

    @classmethod
    def of(cls, question: str) -> Wishes:
        return _wishes(question)

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def any(self, *names: str) -> bool:
        """Whether one of the names is wished for."""
        return not self.names.isdisjoint(names)


def asks(name: str, words: str) -> bool:
    """Whether the words are of the kind `name` (see `asks` in words.yaml)."""
    return _patterns("asks")[name].search(words) is not None


@lru_cache(maxsize=2)
def word_list(name: str) -> frozenset[str]:
    """One of the plain lists of words: `stop`, `around`."""
    return frozenset(_words()[name].split())


@lru_cache(maxsize=1)
def defined_forms() -> tuple[re.Pattern[str], ...]:
    """The forms of "what is X", with X as the group `x`."""
    x = r"[\"'“‘„«]?(?P<x>.{1,80}?)[\"'”’“»]?"
    end = r"\s*[?.!。？]*\s*$"
    forms = [re.sub(r"\$$", lambda _: end, form).replace("X", x, 1) for form in _words()["defined"]]
    return tuple(re.compile(form, re.IGNORECASE) for form in forms)


@lru_cache(maxsize=64)
def _wishes(question: str) -> Wishes:
    return Wishes(frozenset(name for name, pattern in _patterns("wishes").items() if pattern.search(question)))


@lru_cache(maxsize=2)
def _patterns(section: str) -> dict[str, re.Pattern[str]]:
    return {name: re.compile("|".join(map(str, forms)), re.IGNORECASE) for name, forms in _words()[section].items()}


@lru_cache(maxsize=1)
def _words() -> dict[str, Any]:
    from pathasst.core import yaml_text

    words: dict[str, Any] = yaml_text.load(files(__package__).joinpath("words.yaml").read_text(encoding="utf-8"))
    return words
