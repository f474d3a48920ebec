"""The sentences of an abstract that answer a query best, by the weight of the query's rare words in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pathasst.core.text import sentences

if TYPE_CHECKING:
    from pathasst.papers.words import Words

MIN_SHARE = 0.15  # of the query's weight that a sentence must hold to be shown


def best_sentences(query: str, text: str, words: Words, count: int = 2) -> list[str]:
    """At most `count` sentences, in the order of the text; none when no sentence shares enough with the query."""
    rarity = {term: words.rarity(term) for term in words.terms(query)[:64]}
    total = sum(rarity.values())
    if not total:
        return []
    scored = []
    for place, sentence in enumerate(sentences(text)):
        terms = words.terms(sentence)
        shared = sum(rarity.get(term, 0.0) for term in terms)
        # Long sentences hold more words by chance.
        scored.append((shared / (1 + 0.01 * max(0, len(terms) - 20)), place, sentence))
    best = sorted(scored, key=lambda s: (-s[0], s[1]))[:count]
    return [sentence for score, _, sentence in sorted(best, key=lambda s: s[1]) if score >= MIN_SHARE * total]
