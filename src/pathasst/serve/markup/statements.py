"""What stands behind each sentence of an answer: a small number after it, and what the number means below."""

from __future__ import annotations

from collections.abc import Sequence

from pathasst.assistant.answer import Answer
from pathasst.assistant.statements import Kind, Statement
from pathasst.core.text import shortened
from pathasst.serve.markup.words import citation, escape, markdown, title_of

KINDS = {
    Kind.TOOL: "Measured",
    Kind.LOOK: "Looked at",
    Kind.PASSAGE: "Abstract",
    Kind.GLOSSARY: "Glossary",
    Kind.FIXED: "Fixed words",
    Kind.MODEL: "The model's own words",
}
EVIDENCE_CHARACTERS = 500
_OPEN, _CLOSE = "\ue000", "\ue001"  # private characters that no text from outside keeps: they are taken out first


def answer_words(answer: Answer) -> str:
    """The answer's text with a mark after each statement, and the list of what the marks mean."""
    text = answer.text.replace(_OPEN, "").replace(_CLOSE, "")
    sources: dict[tuple[Kind, str], int] = {}
    behind: list[Statement] = []
    pieces, at = [], 0
    for statement in answer.statements:
        place = text.find(statement.text, at) if statement.text else -1
        if place < 0:
            continue
        key = (statement.kind, statement.source)
        if key not in sources:
            sources[key] = len(behind)
            behind.append(statement)
        end = place + len(statement.text.rstrip())
        pieces.append(f"{text[at:end]}{_OPEN}{sources[key]}{_CLOSE}")
        at = end
    words = markdown("".join([*pieces, text[at:]]), answer.library)
    for number, statement in enumerate(behind):
        words = words.replace(f"{_OPEN}{number}{_CLOSE}", _mark(number, statement))
    return f'<div class="pa-words">{words}</div>{_behind(behind)}'


def _mark(number: int, statement: Statement) -> str:
    tooltip = f"{KINDS[statement.kind]}: {_source(statement)}. {shortened(statement.evidence, EVIDENCE_CHARACTERS)}"
    return f'<sup class="pa-mark-{statement.kind}" title="{escape(tooltip)}" aria-label="Source {number + 1}">{number + 1}</sup>'


def _behind(statements: Sequence[Statement]) -> str:
    if not statements:
        return ""
    rows = "".join(
        f'<li class="pa-mark-{s.kind}"><strong>{KINDS[s.kind]}</strong> {_linked(s)}'
        f"{f'<br><q>{escape(shortened(s.evidence, EVIDENCE_CHARACTERS))}</q>' if s.evidence else ''}</li>"
        for s in statements
    )
    return f'<details class="pa-fold pa-behind"><summary>What stands behind each sentence</summary><ol>{rows}</ol></details>'


def _source(statement: Statement) -> str:
    if statement.kind is Kind.PASSAGE:
        return f"PMID {statement.source}"
    if statement.kind is Kind.FIXED:
        return "PathAsst's own words, the same for everybody"
    if statement.kind is Kind.MODEL:
        return "no source here holds this"
    return title_of(statement.source) if statement.kind is Kind.TOOL else statement.source


def _linked(statement: Statement) -> str:
    return (
        citation(statement.source)
        if statement.kind is Kind.PASSAGE and statement.source.isdecimal()
        else escape(_source(statement))
    )
