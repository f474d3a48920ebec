"""A small glossary of pathology: terms, abbreviations, scoring rules and cut-offs in our own words, each with its source.

Knows `glossary.yaml` and how people spell; no tool, no model. Look-up forgives case, hyphens, accents and small typing errors.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

LONGEST_NAME = 7  # words of the longest name
FUZZY_LETTERS = 5  # a shorter name must be spelt rightly
NEAR = 0.84  # likeness (difflib) from which a name counts as misspelt
_CHINESE = re.compile(r"[\u4e00-\u9fff]")
_WORD = re.compile(r"[^\W_]+(?:[-/&:.@+'’][^\W_]+)*\+?|\d\+")


@dataclass(frozen=True, slots=True)
class GlossaryEntry:
    """One term. `sources`: guideline or article, in words, with year."""

    term: str
    text: str
    sources: tuple[str, ...]
    stands_for: str = ""
    also: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """The entry as one or more whole sentences, without its source."""
        return f"{self.term} stands for {self.stands_for}. {self.text}" if self.stands_for else f"{self.term}: {self.text}"

    @property
    def citation(self) -> str:
        """Where it is stated."""
        return "; ".join(self.sources)


class Glossary:
    """The entries, by every way they are written."""

    def __init__(self, entries: list[GlossaryEntry]) -> None:
        self.entries = entries
        self._names: dict[str, GlossaryEntry] = {}
        self._capitals: set[str] = set()  # keys of names that are words only in capitals (ER, SAM, IC)
        self._chinese: dict[str, GlossaryEntry] = {}  # names that stand in a text without blanks around
        for entry in entries:
            for name in (entry.term, entry.stands_for, *entry.also):
                if name:
                    self._names.setdefault(key_of(name), entry)
                    if len(name) > 1 and _CHINESE.search(name):
                        self._chinese.setdefault(name, entry)
                    if len(name) <= 4 and name.isupper():
                        self._capitals.add(key_of(name))

    @classmethod
    def load(cls) -> Glossary:
        """The glossary that ships with the package."""
        return _load()

    def __len__(self) -> int:
        return len(self.entries)

    def get(self, term: str) -> GlossaryEntry:
        """The entry of a term as the file spells it. Raises KeyError."""
        return self._names[key_of(term)]

    def lookup(self, name: str) -> GlossaryEntry | None:
        """The entry that a name means, misspelt ones included; None where no entry is near."""
        key = key_of(name)
        if key in self._names:
            return self._names[key]
        if key.endswith("s") and key[:-1] in self._names:
            return self._names[key[:-1]]
        if len(key) < FUZZY_LETTERS:
            return None
        digits = re.findall(r"\d+", key)
        near = difflib.get_close_matches(key, self._names, n=3, cutoff=NEAR)
        near = [n for n in near if re.findall(r"\d+", n) == digits and len(n) >= FUZZY_LETTERS]  # CD3 is no CD20
        return self._names[near[0]] if near else None

    def mentions(self, text: str, *, misspelt: bool = False) -> list[GlossaryEntry]:
        """The entries that a text names, in its order, the longest name at each place. Short abbreviations only in capitals."""
        words = [(m.start(), m.group()) for m in _WORD.finditer(text)]
        matches: dict[str, GlossaryEntry] = {}
        for _, chinese in sorted(self._chinese_in(text), key=lambda found: found[0]):
            matches.setdefault(chinese.term, chinese)
        at = 0
        while at < len(words):
            for length in range(min(LONGEST_NAME, len(words) - at), 0, -1):
                name = " ".join(w for _, w in words[at : at + length])
                entry = self._named(name, misspelt=misspelt and length == 1)
                if entry is not None:
                    matches.setdefault(entry.term, entry)
                    at += length - 1
                    break
            at += 1
        return list(matches.values())

    def _chinese_in(self, text: str) -> Iterator[tuple[int, GlossaryEntry]]:
        """Where a text names entries in Chinese; of names that overlap the longest."""
        if not _CHINESE.search(text):
            return
        for name in sorted(self._chinese, key=len, reverse=True):
            if (at := text.find(name)) >= 0:
                yield at, self._chinese[name]
                text = text.replace(name, " " * len(name))

    def _named(self, name: str, *, misspelt: bool) -> GlossaryEntry | None:
        key = key_of(name)
        for variant in (key, key.removesuffix("s")):
            if variant in self._names and (variant not in self._capitals or name.rstrip("s").isupper()):
                return self._names[variant]
        return self.lookup(name) if misspelt and len(key) > FUZZY_LETTERS + 1 else None


def key_of(name: str) -> str:
    """A name without case, accents, blanks and punctuation, but with the plus of a score: `HER-2/neu` → `her2neu`."""
    plain = unicodedata.normalize("NFKD", name).casefold().replace("ß", "ss")
    return "".join(c for c in plain if c.isalnum() or c == "+")


@lru_cache(maxsize=1)
def _load() -> Glossary:
    from pathasst.core import yaml_text

    values: dict[str, Any] = yaml_text.load(files(__package__).joinpath("glossary.yaml").read_text(encoding="utf-8"))
    sources: dict[str, str] = values["sources"]
    entries = []
    for row in values["terms"]:
        names = [row["source"]] if isinstance(row["source"], str) else row["source"]
        entries.append(
            GlossaryEntry(
                term=str(row["term"]),
                text=row["text"],
                sources=tuple(sources[n] for n in names),
                stands_for=row.get("stands_for", ""),
                also=tuple(map(str, row.get("also", ()))),
            )
        )
    return Glossary(entries)
