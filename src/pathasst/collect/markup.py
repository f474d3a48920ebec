"""JATS markup → plain text. Knows elements and characters; knows nothing of figures, articles or files."""

from __future__ import annotations

import html
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from pathasst.core.errors import BadInput

MAX_ENTITY = 200  # characters; longer ones are an attack, not a sign
MML = "{http://www.w3.org/1998/Math/MathML}"

# Only signs that stay readable (and searchable) as Unicode: CD4⁺, IC₅₀, H₂O. Anything else keeps its plain letters.
_SUP = dict(zip("0123456789+-−–=()ni", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁻⁼⁽⁾ⁿⁱ", strict=True))
_SUB = dict(zip("0123456789+-−–=()", "₀₁₂₃₄₅₆₇₈₉₊₋₋₋₌₍₎", strict=True))

# Holds no words of the running text (objects that stand inside a paragraph have a text of their own).
_SILENT = frozenset(
    """fig fig-group table-wrap table-wrap-group supplementary-material boxed-text graphic inline-graphic media alt-text
    long-desc object-id permissions tex-math fn""".split()  # noqa: SIM905 (a list of names reads best as one)
)
# Ends a word: text before and after it must not run together.
_BLOCK = frozenset(
    """p title label list list-item def-list def-item def term disp-formula disp-quote sec break
    tr td th caption""".split()  # noqa: SIM905
)
_SIMPLE = frozenset({"italic", "bold", "xref", "ext-link", "styled-content", "named-content", "underline", "sc"})
_STYLED = {"sup": _SUP, "sub": _SUB, f"{MML}sup": _SUP, f"{MML}sub": _SUB}
# MathML element → the tables for its second and third child.
_SCRIPTS: dict[str, tuple[dict[str, str], ...]] = {
    f"{MML}msup": (_SUP,),
    f"{MML}msub": (_SUB,),
    f"{MML}msubsup": (_SUB, _SUP),
}


def text_of(element: Any) -> str:
    """The words of an element as a reader sees them, in one line.

    Italics and bold leave no trace; super- and subscripts become Unicode where every sign of them exists; formulas are written
    in line; figures, tables and notes standing inside are left out. White space is folded.
    """
    if not len(element):
        return " ".join((element.text or "").split())
    parts: list[str] = []
    _collect(element, parts)
    return " ".join("".join(parts).split())


def blocks_text(element: Any) -> str:
    """The text of an element that holds blocks (a caption, an abstract), a space between the blocks."""
    if element.text and not element.text.isspace():
        return text_of(element)
    return " ".join(text for e in element if isinstance(e.tag, str) and e.tag not in _SILENT and (text := text_of(e)))


def resolve_entities(references: Sequence[Any], name: str) -> None:
    """Replace entity references by their characters, in place: the common names (`&alpha;`, `&minus;`, known without a DTD),
    and what the file itself declares as plain text.

    Raises BadInput for an external entity, or one made of further entities or markup: no publisher needs these.
    """
    dtd = references[0].getroottree().docinfo.internalDTD if references else None
    declared = {} if dtd is None else {e.name: e.content for e in dtd.iterentities()}
    for entity in references:
        text = declared[entity.name] if entity.name in declared else html.unescape(entity.text)
        if text is None or (entity.name in declared and (len(text) > MAX_ENTITY or "&" in text or "<" in text)):
            raise BadInput(f"{name}: entity &{entity.name}; is external or nested and is not expanded. Leave this file out.")
        _replace_by_text(entity, text)


def _collect(element: Any, parts: list[str]) -> None:
    if element.text:
        parts.append(element.text)
    for child in element:
        tag = child.tag
        if tag in _SIMPLE and not len(child):  # by far the commonest: italics, bold, references
            if text := child.text:
                parts.append(text)
        elif tag in _STYLED:
            parts.append(_restyle("".join(child.itertext()), _STYLED[tag]))
        elif tag in _SCRIPTS:
            _scripts(child, parts)
        elif tag in _BLOCK:
            parts.append(" ")
            _collect(child, parts)
            parts.append(" ")
        elif isinstance(tag, str) and tag not in _SILENT:
            _collect(child, parts)
        if tail := child.tail:
            parts.append(tail)


def _scripts(element: Any, parts: list[str]) -> None:
    """A MathML base with its sub- and superscripts."""
    for child, table in zip(element, ({}, *_SCRIPTS[element.tag]), strict=False):
        inner: list[str] = []
        _collect(child, inner)
        text = "".join("".join(inner).split())
        parts.append(_restyle(text, table) if table else text)


def _restyle(text: str, table: dict[str, str]) -> str:
    return _restyle_known(text, table is _SUP)


@lru_cache(maxsize=16384)
def _restyle_known(text: str, superscript: bool) -> str:
    table, bare = (_SUP if superscript else _SUB), text.strip()
    if not all(sign in table for sign in bare):
        return text
    return text.replace(bare, "".join(table[sign] for sign in bare)) if bare else text


def _replace_by_text(node: Any, text: str) -> None:
    """Put plain text where a node stands; lxml keeps text in the neighbour's `text` or `tail`."""
    parent, before = node.getparent(), node.getprevious()
    if parent is None:
        return
    text += node.tail or ""
    if before is None:
        parent.text = (parent.text or "") + text
    else:
        before.tail = (before.tail or "") + text
    node.tail = None
    parent.remove(node)
