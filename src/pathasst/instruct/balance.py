"""Which "no" to ask, so that a question tells nothing without its picture.

A model that never looks gains whenever "Is this HSIL?" is mostly answered "no". So a question is asked as often with a "yes"
as with a "no", for every term by itself: the rarer what could be denied, the rarer the question, a fair coin, and the denied term
drawn in proportion to how often it is true elsewhere. Knows terms and counts; knows no wordings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random

Term = tuple[str, str]  # kind, term
NEAR = 3.0  # a sibling is denied so many times as often as a term from another kind of picture


@dataclass(slots=True)
class Balance:
    """How often each term is the one of its kind in a collection, and in which kinds of picture (`domain`)."""

    counts: Counter[Term] = field(default_factory=Counter)
    domains: dict[Term, set[str]] = field(default_factory=dict)
    _near: float = 0.0

    def add(self, terms: Iterable[Term], domain: str) -> None:
        """The terms that one picture affirms, each alone of its kind."""
        self._near = 0.0
        for term in terms:
            self.counts[term] += 1
            self.domains.setdefault(term, set()).add(domain)

    def question(self, truth: Term, siblings: Iterable[str], rng: Random) -> tuple[bool, Term] | None:
        """Whether to ask for a "yes", and about which term; None: ask nothing here. `siblings` exclude `truth`."""
        near = [(truth[0], s) for s in siblings]
        weights = {t: NEAR * self.counts[t] for t in near if self.counts[t]}
        weights |= {t: float(n) for t, n in self.counts.items() if self._apart(t, truth)}
        mass = sum(weights.values())
        if not mass or rng.random() > mass / self._most():
            return None
        if rng.random() < 0.5:
            return True, truth
        return False, rng.choices(list(weights), weights=list(weights.values()))[0]

    def _most(self) -> float:
        """The largest weight of what can be denied of any term: where a question is always asked."""
        if not self._near:
            for term in self.counts:
                near = sum(NEAR * n for t, n in self.counts.items() if t[0] == term[0] and t != term)
                self._near = max(self._near, near + sum(n for t, n in self.counts.items() if self._apart(t, term)))
        return self._near

    def _apart(self, first: Term, second: Term) -> bool:
        """Whether two terms were only ever seen in different kinds of picture, all of them known."""
        a, b = self.domains.get(first, set()), self.domains.get(second, set())
        return bool(a and b) and "" not in a | b and not a & b
