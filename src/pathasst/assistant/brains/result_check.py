"""Is what a small model says about results what the results say? If not, the results speak for themselves.

A model of 135 million parameters copies a number wrongly now and then, or adds a finding. Its words about results therefore stand
only if every number, nearly every content word and at least one of the PMIDs come from the results or the question, and what it
says of abstracts only in their own words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pathasst.core.records import Turn
from pathasst.core.text import sentences, shortened
from pathasst.curate.captions.verify import is_verbatim
from pathasst.instruct.check import new_word_share, numbers

MAX_NEW_WORDS = 0.2
MOST_ABSTRACTS = 3
QUOTED_CHARACTERS = 420
_PMID = re.compile(r"\[PMID (\d+)\]")


def grounded(text: str, turns: Sequence[Turn]) -> str:
    """`text`, an answer to a conversation that ends with tools' results; or those results, where it strays from them."""
    question = max((n for n, t in enumerate(turns) if t.role == "user"), default=0)
    results = [t for t in turns[question:] if t.role == "tool"]
    source = " ".join(" ".join([t.content, *t.warnings]) for t in turns[question:] if t.role in ("user", "tool"))
    retrieved = set(_PMID.findall(" ".join(t.content for t in results)))
    strays = set(numbers(text)) - set(numbers(source)) or new_word_share(text, source) > MAX_NEW_WORDS
    if text and not strays and (not retrieved or (retrieved & set(_PMID.findall(text)) and _verbatim(text, results))):
        return text
    return "\n".join(quoted(t) for t in results) or text


def _verbatim(text: str, results: Sequence[Turn]) -> bool:
    """Whether each sentence stands in the line of one abstract, with words left out at most."""
    lines = [_PMID.sub("", line) for t in results for line in t.content.splitlines() if _PMID.search(line)]
    return all(any(is_verbatim(s, line) for line in lines) for s in sentences(_PMID.sub("", text)) if re.search(r"\w", s))


def quoted(result: Turn) -> str:
    """A tool's result in its own words: of abstracts the first few, of other results what fits a few lines."""
    if _PMID.search(result.content):
        lines = [shortened(line, QUOTED_CHARACTERS) for line in result.content.splitlines() if _PMID.search(line)][
            :MOST_ABSTRACTS
        ]
        return "\n".join(["The nearest abstracts say:", *(f"- {line}" for line in lines)])
    words = " ".join([result.content, *(f"Warning: {w}" for w in result.warnings)])
    return f"{result.tool}: {shortened(words, QUOTED_CHARACTERS)}"
