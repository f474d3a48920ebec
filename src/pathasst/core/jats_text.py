"""JATS, MEDLINE and MathML markup → plain text as a reader sees it. Knows elements and characters; knows no room.

Super- and subscripts, fractions and formulas keep their meaning: 10³ is never 103, and a fraction never one number.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from pathasst.core.errors import BadInput

MAX_ENTITY = 200  # characters; longer ones are an attack, not a sign
MML = "{http://www.w3.org/1998/Math/MathML}"

# Only signs that stay readable (and searchable) as Unicode: CD4⁺, IC₅₀, H₂O. Anything else keeps its plain letters.
_SUP = dict(zip("0123456789+-−–=()ni", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁻⁼⁽⁾ⁿⁱ", strict=True))
_SUB = dict(zip("0123456789+-−–=()", "₀₁₂₃₄₅₆₇₈₉₊₋₋₋₌₍₎", strict=True))

_PLAIN = {ord(styled): plain for table in (_SUP, _SUB) for plain, styled in table.items() if plain not in "−–"}

# Holds no words of the running text (objects that stand inside a paragraph have a text of their own).
_SILENT = frozenset(
    """fig fig-group table-wrap table-wrap-group supplementary-material boxed-text graphic inline-graphic media alt-text
    long-desc object-id permissions fn""".split()  # noqa: SIM905 (a list of names reads best as one)
)
# Ends a word: text before and after it must not run together.
_BLOCK = frozenset("label list def-list def disp-formula disp-quote sec break tr td th caption".split())  # noqa: SIM905
# Ends a sentence: a stop follows where the author left it to the layout. After a defined term a colon does.
_SENTENCE = frozenset({"p", "title", "list-item", "def-item"})
_STOP, _COLON = "\ue000", "\ue001"  # private characters, replaced before a text leaves this module
_ENDS = re.compile(f"[{_STOP}{_COLON}][{_STOP}{_COLON} ]*")
_SIMPLE = frozenset({"italic", "bold", "xref", "ext-link", "styled-content", "named-content", "underline", "sc"})
_STYLED = {"sup": _SUP, "sub": _SUB, f"{MML}sup": _SUP, f"{MML}sub": _SUB}
# MathML element → the tables for its second and third child.
_SCRIPTS: dict[str, tuple[dict[str, str], ...]] = {
    f"{MML}msup": (_SUP,),
    f"{MML}msub": (_SUB,),
    f"{MML}msubsup": (_SUB, _SUP),
    f"{MML}munderover": (_SUB, _SUP),
}
_SPACED = frozenset("=<>≤≥≈≠±×∼~→∈≡∝")  # operators that are printed with space around them
_ACCENTS = {
    "¯": "\u0304",
    "‾": "\u0304",
    "_": "\u0332",
    "^": "\u0302",
    "ˆ": "\u0302",
    "~": "\u0303",
    "˜": "\u0303",
    "→": "\u20d7",
    "˙": "\u0307",
}
_TEX_BODY = re.compile(r"\\begin\{document\}(.*?)\\end\{document\}", re.S)


def text_of(element: Any) -> str:
    """The words of an element as a reader sees them, in one line.

    Italics and bold leave no trace; super- and subscripts become Unicode where every sign of them exists; formulas are written
    in line; titles, paragraphs and items of lists end with a stop; figures, tables and notes standing inside are left out.
    White space is folded.
    """
    if not len(element):
        return " ".join((element.text or "").split())
    parts: list[str] = []
    _collect(element, parts)
    text = " ".join("".join(parts).split())
    return _with_stops(text) if _STOP in text or _COLON in text else text


_ATTRIBUTES = r"""(?:\s+[\w:-]+\s*=\s*(?:"[^"<>]*"|'[^'<>]*'))*\s*"""
_SCRIPT_TAGS = re.compile(rf"<(su[pb]){_ATTRIBUTES}>([^<>]{{0,200}})</\1>", re.I)
_INLINE_TAGS = ("i", "em", "b", "strong", "u", "sup", "sub", "span", "sc", "italic", "bold")
_BLOCK_TAGS = re.compile(rf"</?(?:p|div|ul|ol|li|br){_ATTRIBUTES}/?>|<h[1-6]{_ATTRIBUTES}>", re.I)
_HEADING_END = re.compile(rf"[:.]?\s*</h[1-6]>\s*(?:<(?:p|div){_ATTRIBUTES}>)?", re.I)
_ESCAPED = re.compile(r"&(?:lt|gt|amp|quot|apos|#x?[0-9a-f]{1,6});", re.I)


def without_tags(text: str) -> str:
    """A text that holds HTML as letters ("10<sup>3</sup>", "<h4>Aim</h4>…", as Europe PMC and old MEDLINE records do), as read.

    What looks like a tag and is never closed is a comparison, and stays.
    """
    if "</" in text or "<br" in text:
        text = _SCRIPT_TAGS.sub(
            lambda m: restyled(m[2], m[1].lower() == "sup", m.string[max(0, m.start() - 1) : m.start()]), text
        )
        closed = [name for name in _INLINE_TAGS if f"</{name}>" in text.lower()]
        if closed:
            text = re.sub(rf"</?(?:{'|'.join(closed)}){_ATTRIBUTES}>", "", text, flags=re.I)
        lines = _BLOCK_TAGS.sub("\n", _HEADING_END.sub(": ", text)).splitlines()
        text = "\n".join(line.strip() for line in lines if line.strip())
    return _ESCAPED.sub(lambda m: html.unescape(m[0]), text)


def plain_scripts(text: str) -> str:
    """A text with its Unicode super- and subscripts as plain letters, as tools that drop markup write it."""
    return text.translate(_PLAIN)


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


def _with_stops(text: str) -> str:
    """A text with what the ends of its blocks stand for: a stop (after a term a colon), unless the author ended them himself."""
    result, start = "", 0
    for end in _ENDS.finditer(text):
        result = (result + text[start : end.start()]).rstrip()
        start = end.end()
        if result and start < len(text):
            closed = (result.rstrip(")]\"'”’")[-1:] in ".?!:;,-–—…" and result[-1] not in ")]") or result[-1] in ".?!:;,-–—…"
            result += " " if closed else ": " if end[0][0] == _COLON else ". "
    return result + text[start:]


def _collect(element: Any, parts: list[str]) -> None:  # noqa: C901 - one case a kind of element
    if element.text:
        parts.append(element.text)
    for child in element:
        tag = child.tag
        if tag in _SIMPLE and not len(child):  # by far the commonest: italics, bold, references
            if text := child.text:
                parts.append(text)
        elif tag in _STYLED:
            parts.append(restyled("".join(child.itertext()), _STYLED[tag] is _SUP, parts[-1][-1:] if parts else ""))
        elif tag in _SENTENCE:
            parts.append(" ")
            _collect(child, parts)
            parts.append(_STOP)
        elif tag in _BLOCK:
            parts.append(" ")
            _collect(child, parts)
            parts.append(" ")
        elif tag == "term":
            parts.append(" ")
            _collect(child, parts)
            parts.append(_COLON)
        elif tag == f"{MML}math":
            parts.append(_math(child))
        elif tag == "tex-math":
            parts.append(_tex(child))
        elif isinstance(tag, str) and tag not in _SILENT:
            _collect(child, parts)
        if tail := child.tail:
            parts.append(tail)


def restyled(text: str, superscript: bool, before: str) -> str:
    """A super- or subscript as Unicode; a power that Unicode cannot write is marked by "^", since 10-3.5 is another number."""
    text, exists = _restyle(text, superscript)
    if exists or not superscript or not (before.isdigit() and re.match(r"\s*[-−–+]?\d", text)):
        return text
    return f"^{text.strip()}" if re.fullmatch(r"\s*[-−–+]?[\w.]+\s*", text) else f"^({text.strip()})"


@lru_cache(maxsize=16384)
def _restyle(text: str, superscript: bool) -> tuple[str, bool]:
    table, bare = (_SUP if superscript else _SUB), text.strip()
    if not all(sign in table for sign in bare):
        return text, False
    return text.replace(bare, "".join(table[sign] for sign in bare)) if bare else text, True


def _math(element: Any) -> str:  # noqa: C901 - one case a kind of element
    """MathML in one line: scripts, fractions ("½", "(a+b)/c"), roots, accents; space in the markup means nothing there."""
    tag = element.tag
    if not isinstance(tag, str):
        return ""
    name, children = tag.removeprefix(MML), [c for c in element if isinstance(c.tag, str)]
    if name in ("annotation", "annotation-xml"):
        return ""
    if not children:
        text = " ".join((element.text or "").split())
        if name == "mspace":
            return " "
        spaced = name == "mo" and text in _SPACED and element.getprevious() is not None
        return f" {text} " if spaced else text
    inner = [_math(c) for c in children]
    if tag in _SCRIPTS:
        return inner[0].strip() + "".join(
            _script(text, table is _SUP) for text, table in zip(inner[1:], _SCRIPTS[tag], strict=False)
        )
    if name == "mfrac" and len(inner) == 2:
        return _fraction(*inner)
    if name == "msqrt":
        return f"√{_grouped(''.join(inner))}"
    if name == "mroot" and len(inner) == 2:
        return f"{_script(inner[1], True)}√{_grouped(inner[0])}"
    if name in ("mover", "munder") and len(inner) == 2:
        mark = _ACCENTS.get(inner[1].strip())
        return unicodedata.normalize("NFC", inner[0].strip() + mark) if mark else inner[0] + _script(inner[1], name == "mover")
    if name == "mfenced":
        return f"{element.get('open', '(')}{', '.join(inner)}{element.get('close', ')')}"
    if name in ("mtable", "mtr", "mlabeledtr"):
        return ("; " if name == "mtable" else " ").join(inner)
    return "".join(inner)


def _script(text: str, superscript: bool) -> str:
    text = "".join(text.split())
    styled, exists = _restyle(text, superscript)
    return styled if exists else f"{'^' if superscript else '_'}{_grouped(text)}"


def _grouped(text: str) -> str:
    return text if len(text.strip()) == 1 or re.fullmatch(r"[\w.]+", text) else f"({text.strip()})"


def _fraction(above: str, below: str) -> str:
    text = f"{above.strip()}⁄{below.strip()}"
    for sign in "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞":
        if unicodedata.normalize("NFKC", sign) == text:
            return sign
    return f"{_grouped(above)}/{_grouped(below)}"


def _tex(element: Any) -> str:
    """A formula that stands in TeX alone; beside MathML of the same formula it says nothing more."""
    parent = element.getparent()
    if parent is not None and next(parent.iter(f"{MML}math"), None) is not None:
        return ""
    text = "".join(element.itertext())
    text = m[1] if (m := _TEX_BODY.search(text)) else text
    text = re.sub(r"\\(?:d?frac)\s*\{([^{}]*)\}\s*\{([^{}]*)\}", lambda m: _fraction(m[1], m[2]), text)
    text = re.sub(r"\\(?:mathrm|mathbf|mathit|text|mathcal|operatorname|rm|bf|it)\b\s*", "", text)
    for command, sign in {
        "times": "×",
        "pm": "±",
        "le": "≤",
        "ge": "≥",
        "leq": "≤",
        "geq": "≥",
        "approx": "≈",
        "cdot": "·",
    }.items():
        text = re.sub(rf"\\{command}(?![A-Za-z])", sign, text)
    text = re.sub(r"([_^])\{([^{}]*)\}|([_^])(\w)", lambda m: _script(m[2] or m[4] or "", (m[1] or m[3]) == "^"), text)
    return " ".join(re.sub(r"\\[,;! ]|[${}]|\\\(|\\\)|\\\[|\\\]", " ", text).split())


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
