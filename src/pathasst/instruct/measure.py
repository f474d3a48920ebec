"""What the wordings and the conversations amount to: templates, overlap of train and test, kinds, tools, tokens.

The overlap is taken between wordings with their slots masked, so that it tells skeletons apart and not the names that fill them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from pathasst.core.records import Conversation
from pathasst.instruct.wordings import Template, Wordings

_SLOT = re.compile(r"\{\w+\}")
_WORD = re.compile(r"[\w'+-]+")


@dataclass(frozen=True, slots=True)
class SplitOverlap:
    """How near a test template is to the nearest train template."""

    template: str
    ngram: int  # words of the longest run that some train wording shares
    jaccard: float  # of the word sets, with the nearest train wording
    nearest: str


def user_templates(wordings: Wordings, part: str) -> list[str]:
    """Every template of what a person says, of one part: train or test. Frames, things and acts count by themselves."""
    texts: list[str] = []
    for tool in wordings.tool_names():
        node = wordings.load(f"tools/{tool}")
        texts += [t for kind in ("requests", "things", "acts") for ts in node.get(kind, {}).get(part, {}).values() for t in ts]
        texts += [q for q, _ in node["follow_ups"].get(part, [])]
    decline, plain, converse = (wordings.load(n) for n in ("decline", "plain", "converse"))
    for node in (decline, decline["things"], decline["acts"]):
        texts += [t for t, _ in node["unable"][part]] + node["off_topic"][part]
    texts += [t for kind in wordings.load("frames").values() for t in kind[part]] + wordings.load("glossary")["ask"][part]
    texts += [q for kind in plain.values() for q, _ in kind[part]]
    texts += wordings.load("describe")[part]
    later = wordings.load("later")
    texts += later["repeat"][part] + later["read_on"][part] + [question for question, _ in later["talk"][part]]
    texts += [t for node in _parts(converse) for t in node[part]]
    return list(dict.fromkeys(texts))


def overlaps(wordings: Wordings) -> list[SplitOverlap]:
    """Every test template with its nearest train template, the nearest first."""
    train = {t: [words(e) for e in Template(t).expansions()] for t in user_templates(wordings, "train")}
    grams: dict[int, set[tuple[str, ...]]] = {}
    for texts_of in train.values():
        for text in texts_of:
            for n in range(1, len(text) + 1):
                grams.setdefault(n, set()).update(_ngrams(text, n))
    nearest = _Nearest(train)
    overlaps_ = []
    for test in user_templates(wordings, "test"):
        texts = [words(e) for e in Template(test).expansions()]
        longest = max((n for text in texts for n in range(1, len(text) + 1) if _ngrams(text, n) & grams.get(n, set())), default=0)
        overlaps_.append(SplitOverlap(test, longest, *nearest.of(texts)))
    return sorted(overlaps_, key=lambda o: (-o.jaccard, -o.ngram))


def words(text: str) -> list[str]:
    """The words of a wording, lower case, slots masked as `_`, punctuation dropped."""
    return _WORD.findall(_SLOT.sub(" _ ", text).lower())


@dataclass(slots=True)
class Summary:
    """Counts over a dataset of conversations."""

    kinds: Counter[tuple[str, str]] = field(default_factory=Counter)  # (split, kind)
    scenarios: Counter[tuple[str, str]] = field(default_factory=Counter)  # (split, scenario)
    tools: Counter[tuple[str, str]] = field(default_factory=Counter)  # (split, tool called)
    wordings: dict[str, set[str]] = field(default_factory=dict)  # split → templates used
    answers: Counter[str] = field(default_factory=Counter)  # yes | no, of yes-no questions
    texts: dict[str, list[str]] = field(default_factory=dict)  # kind → all words of each conversation
    replies: list[str] = field(default_factory=list)  # each answer of an assistant


def summary(conversations: Iterable[Conversation]) -> Summary:
    """Read once through the conversations."""
    s = Summary()
    for c in conversations:
        s.kinds[c.split, c.kind] += 1
        s.texts.setdefault(c.kind, []).append(" ".join(t.content for t in c.turns))
        marks = [m for m in c.trail if m.step in ("invoke", "instruct")]
        s.wordings.setdefault(c.split, set()).update(m.note for m in marks)
        for mark in marks:
            if mark.step == "invoke":
                s.scenarios[c.split, mark.by] += 1
        for turn in c.turns:
            s.tools.update((c.split, call.name) for call in turn.tool_calls)
            if turn.role == "assistant" and turn.content:
                s.replies.append(turn.content)
                first = turn.content.split()[0].strip(",.").lower()
                if first in ("yes", "no") and c.kind == "converse":
                    s.answers[first] += 1
    return s


def _parts(node: Any) -> Iterator[Mapping[str, Any]]:
    """Every `{train, test}` node under a node."""
    if isinstance(node, Mapping):
        if "train" in node:
            yield node
        for value in node.values():
            yield from _parts(value)


def _ngrams(text: list[str], n: int) -> set[tuple[str, ...]]:
    return {tuple(text[i : i + n]) for i in range(len(text) - n + 1)}


class _Nearest:
    """The train template whose word set is nearest to a test one's: one matrix product for all pairs."""

    def __init__(self, train: Mapping[str, list[list[str]]]) -> None:
        rows = list(dict.fromkeys((t, frozenset(text) - {"_"}) for t, texts in train.items() for text in texts))
        self.templates = [t for t, _ in rows]
        self.column = {word: n for n, word in enumerate(sorted({w for _, ws in rows for w in ws}))}
        self.rows = self._matrix([ws for _, ws in rows])
        self.sizes = np.array([len(ws) for _, ws in rows])

    def of(self, texts: list[list[str]]) -> tuple[float, str]:
        """(Jaccard index of the word sets, template) of the nearest; of equals, the last by the alphabet."""
        sets = list(dict.fromkeys(frozenset(text) - {"_"} for text in texts))
        shared = (self._matrix(sets) @ self.rows.T).toarray()
        union = np.array([len(ws) for ws in sets])[:, None] + self.sizes - shared
        share = (shared / np.maximum(union, 1)).max(axis=0)
        return max(zip(share.tolist(), self.templates, strict=True))

    def _matrix(self, sets: list[frozenset[str]]) -> csr_matrix:
        """One row for each word set, one column for each word of the train wordings."""
        places = [(n, self.column[w]) for n, ws in enumerate(sets) for w in ws if w in self.column]
        row, column = zip(*places, strict=True) if places else ((), ())
        return csr_matrix((np.ones(len(places)), (row, column)), shape=(len(sets), len(self.column)))
