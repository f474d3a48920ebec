"""Whether an abstract is about a question at all. Knows an open index's words; no model.

A search always has nearest neighbours, also for nonsense and for what the collection lacks. An abstract counts as being about
the question when it holds most of its concepts, each weighed by how rare it is, a concept that no abstract has weighing most.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pathasst.papers.question import LiteratureQuestion, QueryConcept

if TYPE_CHECKING:
    from pathasst.papers.words import Words

GENERAL = 0.3
"""Weight of a general concept (treatment, high, predict) against a subject of the same rarity."""
FLOOR = 0.7
"""Share of the question's weight that an abstract must hold. Measured on absent topics and nonsense: docs/performance.md."""
MAX_CONCEPTS = 24


@dataclass(frozen=True, slots=True)
class Judged:
    """How much of a question an abstract holds, 0 to 1, and which of its concepts it lacks."""

    share: float
    missing: tuple[str, ...] = ()

    @property
    def about(self) -> bool:
        """Whether the abstract is about the question."""
        return self.share >= FLOOR


class Relevance:
    """`Relevance(question, words)(text)` judges one abstract."""

    def __init__(self, question: LiteratureQuestion, words: Words) -> None:
        self._words = words
        self._concepts = question.concepts[:MAX_CONCEPTS]
        self._terms = [words.terms(c.name) for c in self._concepts]
        self.weights = [
            self._weight(c, t) * (GENERAL if c.general else 1) for c, t in zip(self._concepts, self._terms, strict=True)
        ]

    def __call__(self, text: str) -> Judged:
        total = sum(self.weights)
        if not total:
            return Judged(0.0, tuple(c.name for c in self._concepts))
        present = set(self._words.sequence(text))
        has = [
            (c.group is not None and c.group.within(text)) or (bool(t) and present.issuperset(t))
            for c, t in zip(self._concepts, self._terms, strict=True)
        ]
        share = sum(w for w, h in zip(self.weights, has, strict=True) if h) / total
        return Judged(share, tuple(c.name for c, h in zip(self._concepts, has, strict=True) if not h))

    @property
    def hopeless(self) -> bool:
        """Whether no abstract can be near: the question has no concept, or most of its weight no abstract names."""
        absent = set(self.absent())
        missing = sum(w for w, c in zip(self.weights, self._concepts, strict=True) if c.name in absent)
        return not self._concepts or 2 * missing >= sum(self.weights)

    def absent(self) -> list[str]:
        """Concepts that no abstract of the collection names."""
        return [c.name for c, t in zip(self._concepts, self._terms, strict=True) if not self._present(c, t)]

    def _present(self, concept: QueryConcept, terms: Sequence[str]) -> bool:
        names = [terms, *(self._words.terms(n) for n in (concept.group.names if concept.group else ()))]
        return any(n and all(self._words.rarity(t) > 0 for t in n) for n in names)

    def _weight(self, concept: QueryConcept, terms: Sequence[str]) -> float:
        """The rarest of a concept's terms decides; of several names the commonest. A concept without terms is a stop word."""
        names = [terms, *(self._words.terms(n) for n in (concept.group.names if concept.group else ()))]
        full = math.log(1 + 2 * len(self._words))
        weights = [max(self._words.rarity(t) or full for t in n) for n in names if n]
        return min(weights, default=0.0)
