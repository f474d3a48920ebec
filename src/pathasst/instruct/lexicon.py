"""Terms of pathology in a text: which organ, stain, diagnosis, cell … a caption names, and what kind of picture it describes.

Knows `lexicon.yaml`. A term is found by its name or its synonyms, as whole words, without regard to case or plural.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pathasst.instruct.wordings import Wordings

KINDS = ("organ", "stain", "diagnosis", "tissue", "cell", "bethesda", "marker", "finding")
OTHER = "other"  # names that hide a term in them: nothing is asked about them
DOMAINS = ("cytology", "blood", "ihc", "he")
_NEGATION = re.compile(
    r"\b(?:no|not|without|absence of|absent|negative for|lack of|lacks|lacking|free of|rather than|exclude[ds]?)\b"
)


@dataclass(frozen=True, slots=True)
class Mentions:
    """What a text names: kind → terms in order of first mention. `denied` holds terms that are named only to be denied."""

    terms: dict[str, list[str]]
    denied: frozenset[str]

    def all(self) -> set[str]:
        return {t for terms in self.terms.values() for t in terms}


class Lexicon:
    """The compiled lexicon: one pattern for all words, longest first, so that "squamous cell carcinoma" is not "carcinoma"."""

    def __init__(self, node: Mapping[str, Any]) -> None:
        self.sets: dict[str, list[str]] = {k: list(node[k]["set"]) for k in KINDS}
        self.malignant = set(node["diagnosis"]["malignant"])
        self.benign = set(node["diagnosis"]["benign"])
        self.meaning: dict[str, list[tuple[str, str]]] = {}
        for kind in KINDS:
            for term, synonyms in node[kind]["terms"].items():
                for word in [term, *synonyms]:
                    self.meaning.setdefault(word.lower(), []).append((kind, term))
        for word in node.get("hidden", ()):
            self.meaning[word.lower()] = [(OTHER, word)]
        self.pattern = _words(list(self.meaning))
        self.domains = [(d, _words(node["domain"][d])) for d in DOMAINS]

    def find(self, text: str) -> Mentions:
        """Every term of the text."""
        terms: dict[str, list[str]] = {k: [] for k in (*KINDS, OTHER)}
        affirmed: set[str] = set()
        low = text.lower()
        for match in self.pattern.finditer(low):
            negated = bool(_NEGATION.search(low[max(0, match.start() - 40) : match.start()].rsplit(".", 1)[-1]))
            for kind, term in self._meanings(match.group(1)):
                if term not in terms[kind]:
                    terms[kind].append(term)
                if not negated or _NEGATION.match(match.group(1)):
                    affirmed.add(term)
        everything = {t for ts in terms.values() for t in ts}
        return Mentions(terms, frozenset(everything - affirmed))

    def domain(self, text: str) -> str:
        """cytology, blood, ihc or he; empty when the text does not say."""
        low = text.lower()
        return next((d for d, pattern in self.domains if pattern.search(low)), "")

    def siblings(self, kind: str, mentions: Mentions) -> list[str]:
        """Terms of the kind's exclusive set that the text does not name at all."""
        named = mentions.all()
        return [t for t in self.sets[kind] if t not in named]

    def _meanings(self, word: str) -> list[tuple[str, str]]:
        return (
            self.meaning.get(word) or self.meaning.get(word.removesuffix("s")) or self.meaning.get(word.removesuffix("es")) or []
        )


def _words(words: list[str]) -> re.Pattern[str]:
    longest_first = sorted({w.lower() for w in words}, key=lambda w: (-len(w), w))
    return re.compile(r"(?<![\w-])((?:" + "|".join(map(re.escape, longest_first)) + r")(?:e?s)?)(?![\w])")


@lru_cache(maxsize=4)
def lexicon(wordings: Wordings) -> Lexicon:
    """The lexicon of a set of wordings, compiled once."""
    return Lexicon(wordings.load("lexicon"))
