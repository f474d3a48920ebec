"""Plain text: its sentences, and shortening. Knows no room."""

from __future__ import annotations

import re

_SENTENCE_END = re.compile(
    r"(?<=[.?!])[)\]]?\s+(?=[(\[]?[A-Z0-9*×#“\"Δα-ω→−+]|[a-z]{1,3}[A-Z0-9])|(?<=[a-z)\]]\.)(?=[A-Z][a-z])",
)
_ABBREVIATION = re.compile(
    r"(?:(?<!&)(?<!& )\b(?:[A-Z]|vs|spp?|cf|ca|approx|al|e\.g|i\.e|etc|Figs?|figs?|Ref|No|no|Dr|St|"
    r"resp|var|subsp|sp\. n|Inc|Co|Ltd|Corp|mag|orig))\.$"
)
ABBREVIATION_REACH = 12
"""Characters before a sentence's end that tell an abbreviation: the longest, and what stands before it."""


def shortened(text: str, longest: int) -> str:
    """A text of at most about `longest` characters, cut between two words."""
    return text if len(text) <= longest else text[:longest].rsplit(" ", 1)[0] + " …"


def sentence_spans(text: str, start: int = 0, end: int | None = None) -> list[tuple[int, int]]:
    """Spans of the sentences between two places of a text; abbreviations and initials do not end one."""
    end = len(text) if end is None else end
    spans, begin = [], start
    for match in _SENTENCE_END.finditer(text, start, end):
        if _ABBREVIATION.search(text[max(begin, match.start() - ABBREVIATION_REACH) : match.start()]):
            continue
        spans.append((begin, match.start()))
        begin = match.end()
    spans.append((begin, end))
    return [(a, b) for a, b in spans if text[a:b].strip()]


def sentences(text: str) -> list[str]:
    """The sentences of a text, as `sentence_spans` parts them; its lines (the sections of an abstract) are never joined."""
    return [line[a:b].strip() for line in text.splitlines() for a, b in sentence_spans(line)]
