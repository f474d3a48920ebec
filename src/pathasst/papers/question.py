"""From a person's words to a literature query: what it is about, without the words that only ask. Knows language, no index.

A query is made from what the person says and, where that leaves it open ("what does the literature say about it?"), from what
the conversation is about. It is never the name of a tool.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from pathasst.papers.synonyms import SynonymGroup, groups_in

PMID = re.compile(
    r"\bPM(?:ID|C)s?\b[\s:#]{0,4}(\d{1,9})|\bpubmed\.ncbi\.nlm\.nih\.gov/(\d{1,9})|\bpubmed\s*(?:id)?[\s:#]{1,4}(\d{4,9})",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W_]+(?:[-/.'’][^\W_]+)*\+?")


@dataclass(frozen=True, slots=True)
class QueryConcept:
    """One thing that a question is about: a group of synonyms, or a word."""

    name: str
    group: SynonymGroup | None = None

    @property
    def general(self) -> bool:
        """Whether it is said of many subjects (treatment, high, predict): it narrows a question and is none."""
        return self.name.casefold() in _words("general")


@dataclass(frozen=True, slots=True)
class LiteratureQuestion:
    """What to search for. `text`: the query; `concepts`: what abstracts must hold; `pmids`: abstracts asked for by number."""

    text: str
    concepts: tuple[QueryConcept, ...]
    pmids: tuple[str, ...] = ()


def read_question(words: str, context: Sequence[str] = ()) -> LiteratureQuestion:
    """The literature question behind a person's words.

    `context`: what the conversation is about, latest first (terms that tools and questions before named); used where the words
    themselves name nothing but asking, treating and outcome.
    """
    pmids = tuple(dict.fromkeys(str(int(next(filter(None, m.groups())))) for m in PMID.finditer(words)))
    rest = PMID.sub(" ", words)
    concepts = concepts_of(rest)
    open_ = all(c.general for c in concepts)
    if open_ and context and not pmids:
        more = [c for text in context for c in concepts_of(text)]
        concepts = list({c.name.casefold(): c for c in [*more, *concepts]}.values())
    return LiteratureQuestion(" ".join(c.name for c in concepts), tuple(concepts), pmids)


def concepts_of(text: str) -> list[QueryConcept]:
    """Groups of synonyms and content words, in order, each once."""
    placed = groups_in(text)
    concepts = [(span[0], QueryConcept(group.name, group)) for group, span in placed]
    for _, (a, b) in placed:
        text = f"{text[:a]}{' ' * (b - a)}{text[b:]}"
    for phrase in _asking_in_chinese():
        text = text.replace(phrase, " " * len(phrase))
    for match in _WORD.finditer(text):
        word = match.group()
        plain = word.casefold().removesuffix("'s").removesuffix("’s")
        if plain not in _words("asking") and (len(plain) > 1) and not plain.isdigit():
            concepts.append((match.start(), QueryConcept(word.removesuffix("'s").removesuffix("’s"))))
    return list({c.name.casefold(): c for _, c in sorted(concepts, key=lambda item: item[0])}.values())


@lru_cache(maxsize=1)
def _asking_in_chinese() -> tuple[str, ...]:
    """Chinese words that only ask, the longest first: no blanks part them from what is asked for."""
    return tuple(sorted(_words("asking_zh"), key=len, reverse=True))


@lru_cache(maxsize=3)
def _words(kind: str) -> frozenset[str]:
    from pathasst.core import yaml_text

    lists = yaml_text.load(files(__package__).joinpath("question_words.yaml").read_text(encoding="utf-8"))
    return frozenset(lists[kind].split())
