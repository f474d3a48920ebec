"""A model's words while they are made, checked before they are shown: the same checks as the finished answer goes through.

Knows the checks. Words are shown a sentence at a time, since a sentence, a reference or a link can only be judged whole.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pathasst.assistant import citations, sanitize
from pathasst.assistant.checking import Sieve
from pathasst.core.records import Hit

_REFERENCES = re.compile(
    r"\b(?:PMIDs?|PubMed)\b(?:[\d\s,;:#=№./&|\-]|\band\b|\bor\b|PMIDs?|PubMed|\bIDs?\b)*$", re.IGNORECASE
)  # what may yet become a longer list of references
_BRACKETS = (("[", "]"), ("(", ")"), ("<", ">"))
_REACH = 400  # characters of the end that are looked at for a list of references
_MOST_HELD = 1000  # characters held back at most of what began as a link or a list


@dataclass(slots=True)
class Speech:
    """One reply in the making. `library`: PMID → abstracts retrieved so far. Each word is looked at a bounded number of times."""

    library: Mapping[str, Hit]
    sieve: Sieve
    text: str = ""  # shown so far
    pending: str = ""  # stands, and is not shown yet

    def add(self, piece: str) -> str:
        """The words that can be shown now that `piece` has come; empty while a sentence is open."""
        self.pending += self.sieve.add(sanitize.plain(piece))
        end = _open_at(self.pending) if len(self.pending) <= _MOST_HELD else len(self.pending)
        return self._show(len(self.pending[:end].rstrip()))

    def close(self) -> str:
        """The rest."""
        self.pending += self.sieve.close()
        return self._show(len(self.pending.rstrip()))

    def _show(self, end: int) -> str:
        if not end:
            return ""
        words = checked_text(self.pending[:end], self.library)
        if not self.text:
            words = words.lstrip()
        self.pending = self.pending[end:]
        self.text += words
        return words


def _open_at(text: str) -> int:
    """Where something begins that may yet become a link, a mark or a longer list of references; the end if nothing does."""
    starts = [text.find(opens, text.rfind(closes) + 1) for opens, closes in _BRACKETS]
    if text.endswith("!"):
        starts.append(len(text) - 1)
    tail = max(0, len(text) - _REACH)
    if references := _REFERENCES.search(text, tail):
        starts.append(references.start())
    return min((start for start in starts if start >= 0), default=len(text))


def checked_text(text: str, library: Mapping[str, Hit]) -> str:
    """A model's text with references checked and links taken apart, as the answer holds it."""
    return citations.check(sanitize.without_links(sanitize.plain(text)), library).text
