"""Questions and answers about one picture, made from what its caption names; no language model.

Knows pairs, the lexicon and `converse.yaml`. A "no" is asked only about a sibling term of an exclusive set from which the caption
names exactly one, or, with a `Balance`, about a term of another kind of picture; and as often as a "yes". Every answer passes
`check.faults`; what fails is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

from pathasst.core.errors import BadInput
from pathasst.core.records import IMAGE, Conversation, Mark, Pair, Turn
from pathasst.core.templates import Template
from pathasst.core.text import sentences
from pathasst.instruct.balance import Balance, Term
from pathasst.instruct.check import faults
from pathasst.instruct.describe import as_description, conversation_of
from pathasst.instruct.lexicon import Lexicon, Mentions, lexicon
from pathasst.instruct.wordings import Wordings, capital, templates

MAX_SENTENCE_WORDS = 45
W = TypeVar("W", str, Template)
TOPICS = ("organ", "stain", "diagnosis", "tissue", "cell", "bethesda", "marker", "finding")


@dataclass(frozen=True, slots=True)
class QAPair:
    """One question and its answer. `topic` keeps two from asking the same; `allow` holds terms the question brings in."""

    topic: str
    question: str
    answer: str
    template: str
    allow: tuple[str, ...] = ()


def converse(pair: Pair, rng: Random, wordings: Wordings, *, turns: int = 4, balance: Balance | None = None) -> Conversation:
    """A conversation of one to `turns` exchanges. Raises BadInput("nothing-to-ask") when the caption names nothing known."""
    picked = exchanges(pair, rng, wordings, turns, balance)
    if not picked:
        raise BadInput("nothing-to-ask")
    dialogue: list[Turn] = []
    for i, e in enumerate(picked):
        dialogue += [
            Turn(role="user", content=(f"{IMAGE}\n" if i == 0 else "") + e.question),
            Turn(role="assistant", content=e.answer),
        ]
    marks = [Mark(step="instruct", by="template", note=e.template) for e in picked]
    return conversation_of(pair, "converse", dialogue, *marks)


def exchanges(pair: Pair, rng: Random, wordings: Wordings, most: int, balance: Balance | None = None) -> list[QAPair]:
    """Up to `most` grounded exchanges, each on another topic, in the order in which people ask."""
    words = lexicon(wordings)
    mentions = words.find(pair.caption)
    candidates = list(_Asker(pair, rng, wordings, words, mentions, balance).all())
    grounded = [e for e in candidates if not faults(e.answer, pair.caption, words, allow=e.allow)]
    rng.shuffle(grounded)
    picked: list[QAPair] = []
    for e in grounded:
        if len(picked) < rng.randint(1, most) and all(e.topic != c.topic for c in picked):
            picked.append(e)
    return sorted(picked, key=lambda e: e.topic == "more")


def alone(caption: str, words: Lexicon) -> list[Term]:
    """The terms of exclusive sets that a caption affirms, each the only one of its kind: what a yes/no question can be about."""
    mentions = words.find(caption)
    named = {kind: [t for t in mentions.terms[kind] if t not in mentions.denied] for kind in TOPICS}
    return [(kind, terms[0]) for kind, terms in named.items() if len(terms) == 1 and terms[0] in words.sets[kind]]


class _Asker:
    """Makes every exchange a caption allows, with one wording each."""

    def __init__(
        self, pair: Pair, rng: Random, wordings: Wordings, words: Lexicon, mentions: Mentions, balance: Balance | None
    ) -> None:
        self.balance = balance
        self.pair, self.rng, self.words, self.mentions, self.split = pair, rng, words, mentions, pair.split
        self.node: Any = wordings.load("converse")
        self.slots = wordings.slots(rng, pair.split)
        self.sentences = sentences(as_description(pair.caption))

    def all(self) -> Iterator[QAPair]:
        for kind in TOPICS:
            yield from self.what(kind)
        yield from self.yes_no()
        yield from self.nature()
        yield from self.overview()

    def affirmed(self, kind: str) -> list[str]:
        return [t for t in self.mentions.terms[kind] if t not in self.mentions.denied]

    def what(self, kind: str) -> Iterator[QAPair]:
        """What is the organ, stain …: asked when the caption names one alone, or findings of any number."""
        terms = self.affirmed(kind)
        if terms and (len(terms) == 1 or kind in ("finding", "cell")):
            node = self.node["ask"][kind]
            yield self._exchange(kind, node, node["answers"], terms[0], kind)

    def yes_no(self) -> Iterator[QAPair]:
        """As many questions with a "no" as with a "yes": the coin is tossed first, and only where both are possible."""
        for kind in TOPICS:
            terms, others = self.affirmed(kind), self.words.siblings(kind, self.mentions)
            if len(terms) != 1 or terms[0] not in self.words.sets[kind] or not others:
                continue
            term, wordings = terms[0], self.node["yes_no"]
            if self.balance is not None:
                draw = self.balance.question((kind, term), others, self.rng)
                if draw is None:
                    continue
                yes, (about, other) = draw
            else:
                yes, about = self.rng.random() < 0.5, kind
                other = "" if yes else self._near(kind, others)
            topic, answers = f"is-{about}", wordings["answers"]
            if yes:
                yield self._exchange(topic, wordings[kind], answers["yes"], term, kind)
            else:
                yield self._exchange(topic, wordings[about], answers["no"], other, about, truth=(kind, term))

    def nature(self) -> Iterator[QAPair]:
        """Benign or malignant, where the named diagnosis settles it."""
        terms = self.affirmed("diagnosis")
        if len(terms) != 1:
            return
        nature = "malignant" if terms[0] in self.words.malignant else "benign" if terms[0] in self.words.benign else ""
        if nature:
            node = self.node["nature"][self.rng.choice(["either", "closed"])]
            yield self._exchange("nature", node, node[nature], terms[0], "diagnosis")

    def overview(self) -> Iterator[QAPair]:
        """The first sentence, what is left, and the sentence about a finding."""
        short = [s for s in self.sentences if len(s.split()) <= MAX_SENTENCE_WORDS]
        if short and short[0] == self.sentences[0]:
            yield self._exchange("sentence", self.node["sentence"], [short[0]], "", "")
            if len(short) > 1:
                yield self._exchange("more", self.node["more"], [" ".join(short[1:3])], "", "")
        for kind in ("finding", "tissue"):
            for term in self.affirmed(kind)[:1]:
                about = next((s for s in short if term in self.words.find(s).all()), "")
                if about:
                    yield self._exchange(f"about-{kind}", self.node["about"], [about], term, kind)

    def _near(self, kind: str, others: list[str]) -> str:
        """A sibling; for bethesda, cells and tissue any is near, elsewhere the common ones are asked more often."""
        if kind in ("bethesda", "cell", "tissue"):
            return self.rng.choice(others)
        return others[min(int(self.rng.expovariate(0.25)), len(others) - 1)]

    def _exchange(
        self, topic: str, node: Any, answers: list[str], term: str, kind: str, truth: tuple[str, str] = ("", "")
    ) -> QAPair:
        answers = _agreeing(_agreeing(answers, str, "a", term), str, "truth", truth[1])
        template: Template = self.rng.choice(_agreeing(templates(node, self.split), lambda t: t.text, "a", term))
        slots = {**self.slots, **_articled(term, kind), **{"truth": _articled(truth[1], truth[0])["a"]}}
        question = template.fill(self.rng, slots)
        answer = self.rng.choice([Template(a) for a in answers]).fill(self.rng, slots) if term else answers[0]
        return QAPair(
            topic,
            capital(question) if question[:1].islower() and question.endswith("?") else question,
            capital(answer),
            template.text,
            tuple(filter(None, [term, truth[1], "malignant benign" if kind == "diagnosis" else ""])),
        )


def _agreeing(wordings: list[W], text: Callable[[W], str], slot: str, term: str) -> list[W]:
    """The wordings whose verb fits the term in a slot: "giant cells" take no "is"; all, where none fits."""
    if not term.endswith("s") or term.endswith(("ss", "is", "us")):
        return wordings
    singular = re.compile(rf"(?i)\bis\b.*\{{{slot}\}}|\{{{slot}\}} is\b")
    return [w for w in wordings if not singular.search(text(w))] or wordings


def _articled(term: str, kind: str) -> dict[str, str]:
    text = f"a {term}" if kind == "cell" and term else term
    if kind == "diagnosis" and term.split(" ")[-1] in ("tumour", "granuloma", "adenoma", "fibroadenoma", "leiomyoma", "seminoma"):
        text = f"a {term}"
    return {"a": text, "A": capital(text)}
