"""How much of a query a text holds, by the weight of the query's rare words: each alone, and as neighbours. Knows no index.

Fusion counts a word as often as it stands and a text as near as its topic is; a text that holds nearly all of the query's rare
words, in the query's order, is the better answer of two. The weights are fitted to titles (docs/measured/papers.md).
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathasst.papers.words import Words

WORDS = 0.27  # of the fused score; the vectors have the rest. Less than in the fusion alone, since coverage speaks for words, too
FUSED, COVERAGE, PAIRS = 0.45, 0.36, 0.19  # weights of the three parts
MAX_TERMS = 200  # of a query


class WordOverlap:
    """`WordOverlap(query, words)(text, fused)` is the score of a text, from 0 to 1."""

    def __init__(self, query: str, words: Words) -> None:
        terms = words.sequence(query)[:MAX_TERMS]
        self._words = words
        self.rarity = {term: words.rarity(term) for term in terms}
        self.pairs = {(a, b): self.rarity[a] + self.rarity[b] for a, b in itertools.pairwise(terms) if a != b}

    def __call__(self, text: str, fused: float) -> float:
        coverage, pairs = self.shares(text)
        return FUSED * fused + COVERAGE * coverage + PAIRS * pairs

    def shares(self, text: str) -> tuple[float, float]:
        """Of the weight of the query's words, and of its pairs of neighbours: how much the text holds, each from 0 to 1."""
        terms = self._words.sequence(text)
        return _share(self.rarity, set(terms)), _share(self.pairs, set(itertools.pairwise(terms)))


def _share(weights: dict[Any, float], present: set[Any]) -> float:
    total = sum(weights.values())
    return sum(weight for item, weight in weights.items() if item in present) / total if total else 0.0
