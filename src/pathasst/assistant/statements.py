"""A statement and where it comes from. An answer is a list of them; it is turned into text at the end alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What stands behind a statement."""

    TOOL = "tool"  # a specialist model's numbers
    LOOK = "look"  # the look's calibrated probabilities
    PASSAGE = "passage"  # words of a retrieved abstract
    GLOSSARY = "glossary"  # an entry with its guideline or article
    FIXED = "fixed"  # our own fixed words: what can be answered here, what is missing, what to do
    MODEL = "model"  # a language model's own words, which no source here holds


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One or more sentences of an answer that share a source."""

    text: str
    kind: Kind
    source: str = ""  # tool: its name and version; passage: PMID; glossary: the term; look: version
    evidence: str = ""  # passage: the abstract's own words; glossary: the citation; tool, look: the tool's text
    item: bool = False  # stands on a line of its own, in a list


def text_of(statements: Sequence[Statement]) -> str:
    """The answer's text: list items and passages on lines of their own, kinds in paragraphs, everything else run on."""
    lines: list[str] = []
    before: Statement | None = None
    for statement in statements:
        words = f"- {statement.text}" if statement.item else statement.text
        together = before is not None and not statement.item and not before.item and before.kind == statement.kind
        if together and before is not None and before.source == statement.source:
            lines[-1] += f" {words}"
        elif before is not None and before.item and statement.item:
            lines.append(words)
        else:
            lines += ["", words] if lines else [words]
        before = statement
    return "\n".join(lines)


def unique(statements: Iterable[Statement]) -> list[Statement]:
    """Each text once, in order."""
    return list({s.text: s for s in statements}.values())
