"""Finding panel markers in a caption: (A), A), A:, A., "A,", bare A, (a–c), (B and D), Panel A, (left).

Knows text alone. It lists every place that could be a marker, in each printed style; which of them define panels is decided in
`grammar`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

DASH = r"[-‐-―−]"
_LETTER = r"[A-Za-z](?:\d{1,2}(?!\d)|['′])?(?![A-Za-z])"
_JOIN = rf"\s*(?:{DASH}|,\s*and|,\s*&|,|;|/|&|\+|and|to|through)\s*"
SPEC = rf"{_LETTER}(?:{_JOIN}{_LETTER})*"
_NOUN = r"(?:in|(?:sub)?panels?|parts?|figs?\.?(?:\s*\d+)?|figures?(?:\s*\d+)?|images?|sub-?figures?)"
_START = r"(?:(?<=^)|(?<=[\s.;:,()\]>\"”]))"

_MIDDLE = r"middle|cent(?:er|re)"
POSITIONS = (
    rf"(?:(?:upper|top|lower|bottom|central|{_MIDDLE})[\s-]+(?:left|right|{_MIDDLE})|far\s+(?:left|right)|"
    rf"left|right|top|bottom|upper|lower|{_MIDDLE})"
)

_STOP = r"(?:(?<=^)|(?<=[.;:,)]\s)|(?<=[.;:(])|(?<=and\s))"
_COLOURED = rf"(?:{POSITIONS}|inset|same|red|green|blue|black|white|grey|gray)(?:\s+[a-z]+){{0,2}}"
_BESIDE = rf"(?:[a-z&×*,\s-]{{0,24}}arrow(?:head)?s?|[×x*]\s?\d+|\d+\s?[×x*]|{_COLOURED})"

STYLES: dict[str, re.Pattern[str]] = {
    "paren": re.compile(
        rf"[(\[]\s*(?:{_BESIDE}\s*[,;:]\s*|[^()]{{0,30}}?(?=\b{_NOUN}))?(?:{_NOUN}\s+)?(?P<spec>{SPEC})\s*[.:,;]?(?:\s*[,;:]?\s*{_BESIDE})?\s*[)\]]",
        re.I,
    ),
    "rparen": re.compile(rf"(?:{_START}|(?<=[a-z])(?=[A-Z]\)))(?:{_NOUN}\s+)?(?P<spec>{SPEC})\s?\)"),
    "panel": re.compile(
        rf"(?:(?:{_START}(?!in\b){_NOUN}|(?:(?<=^)|(?<=[.;]\s))in)\s+|(?:(?<=^)|(?<=[.;]\s))fig(?:ure|\.)?\s?\d+)"
        rf"\(?(?P<spec>{SPEC})\)?(?=[\s:.,;)]|$)\s*[:.,]?",
        re.I,
    ),
    "colon": re.compile(rf"{_START}(?P<spec>{SPEC})\s?:(?=\s|[A-Z])"),
    "dot": re.compile(rf"{_START}(?P<spec>{SPEC})\.(?=\s|[A-Z(]|$)"),
    "comma": re.compile(rf"(?:(?<=^)|(?<=[.;:,)]\s)|(?<=[.;:(])|(?<=and\s))(?P<spec>{SPEC}),(?=\s)"),
    "dash": re.compile(
        rf"(?:(?<=^)|(?<=[.;:,)]\s)|(?<=[.;:])|(?<=and\s))(?P<spec>{_LETTER})\s?(?:[–—=]|-(?=\s))\s?(?=[A-Za-z\"“(])"
    ),
    "numbered": re.compile(r"(?:(?<=^)|(?<=[\s(]))\d{1,2}(?P<spec>[A-Z])(?=[\s.:,)]|$)"),
    "bare": re.compile(rf"(?:(?<=^)|(?<=[.;:,)?]\s)|(?<=\w[.;])|(?<=and\s)|(?<=[a-z]\s))(?P<spec>{SPEC})(?=\s+[\w×*(μ])"),
}
"""Printed styles, in the order of trust: the group `spec` holds the letters."""
_ROMAN = r"(?:x{0,2}(?:ix|iv|v?i{1,3}|v)|x{1,2})(?![A-Za-z])"
_NUMBER = r"\d{1,2}(?![\d.,]?\d|[A-Za-z%°])"
OTHER_STYLES: dict[str, re.Pattern[str]] = {
    "roman": re.compile(rf"[(\[]\s*(?P<spec>{_ROMAN}(?:{_JOIN}{_ROMAN})*)\s*[)\]]|{_START}(?P<open>{_ROMAN})\)", re.I),
    "number": re.compile(
        rf"(?:(?<=^)|(?<=[a-z.;:,)]\s)|(?<=[.;])|(?<=[a-z])(?=\d{{1,2}}\.\s[A-Z]))(?P<spec>{_NUMBER}(?:\s*(?:{DASH}|,|and)\s*{_NUMBER})*)\.?(?=\s[A-Za-z])"
    ),
}
"""Names that are tried only where no run of letters is found: (i), (ii); and "1 Habitus 2 Head", as zoologists print."""
_ROMANS = (
    "i",
    "ii",
    "iii",
    "iv",
    "v",
    "vi",
    "vii",
    "viii",
    "ix",
    "x",
    "xi",
    "xii",
    "xiii",
    "xiv",
    "xv",
    "xvi",
    "xvii",
    "xviii",
    "xix",
    "xx",
)

_NOT_LETTERS = re.compile(r"(?i)^(?:h\s*(?:&|and|\+|/)\s*e|[ap]/[ap]|w/o|[hptn]/[hptn]|a\s*&\s*p)$")


@dataclass(frozen=True, slots=True)
class Marker:
    """A place in the caption that could name panels."""

    start: int  # first character of the marker, bracket included
    end: int  # one past its last
    letters: tuple[str, ...]  # labels, ranges expanded: letters in upper case, roman numerals in lower, or numbers
    style: str
    lower: bool  # printed in lower case


def rank(label: str) -> int:
    """The place of a label in its alphabet, from 0: A, B … (upper case), i, ii … (lower case), 1, 2 …."""
    if label.isdigit():
        return int(label) - 1
    return ord(label) - ord("A") if label.isupper() else _ROMANS.index(label)


def label_at(like: str, place: int) -> str:
    """The label at a place of the alphabet that `like` is of; "" beyond its end."""
    if like.isdigit():
        return str(place + 1)
    if like.isupper():
        return chr(ord("A") + place) if place < 26 else ""
    return _ROMANS[place] if place < len(_ROMANS) else ""


def expand(spec: str, style: str = "") -> tuple[str, ...]:
    """The labels of "A", "a–c", "B and D", "A1, A2" (letters in upper case), "i–iii", "1–4", without doubles.

    Empty when it is no list of labels.
    """
    if _NOT_LETTERS.match(spec.strip()) or (re.search(r"\d\s*−", spec) and style != "number"):  # "a1 − a2" is a sum
        return ()
    parts = re.split(rf"({_JOIN})", spec)
    labels: list[str] = []
    for n in range(0, len(parts), 2):
        text = parts[n].strip()
        label = text.lower() if style == "roman" else text if style == "number" else text[:1].upper()
        joint = parts[n - 1].strip().lower() if n else ""
        if joint and (re.fullmatch(DASH, joint) or joint in ("to", "through")):
            first = rank(labels[-1])
            if not first <= rank(label) <= first + 25:
                return ()
            labels += [label_at(label, r) for r in range(first + 1, rank(label) + 1)]
        else:
            labels.append(label)
    return tuple(dict.fromkeys(labels))


def find(caption: str, style: str) -> list[Marker]:
    """Every candidate of one style, in order of place."""
    markers = []
    for match in (STYLES.get(style) or OTHER_STYLES[style]).finditer(caption):
        spec = match["spec"] or match["open"]
        letters = expand(spec, style)
        start = match.start("spec") if style in ("colon", "dot", "comma", "dash", "bare", "number") else match.start()
        if letters and not _spoilt(caption, match, style):
            markers.append(Marker(start, match.end(), letters, style, spec[0].islower()))
    return _ranges(caption, markers)


_REFERENCE = re.compile(rf"\(\s*(?P<a>{SPEC})\s*\)|(?:\b(?:in|for)\s+(?:{_NOUN}\s+)?|^\s*)(?P<b>{SPEC})(?=\s*(?:[:;.,]|$))", re.I)


def references(caption: str, start: int, end: int) -> list[Marker]:
    """Where a closing remark names panels: "(A, C)", "in A", or a list that opens it: "A–C: …"."""
    markers = []
    for match in _REFERENCE.finditer(caption[:end], start):
        spec = match["a"] or match["b"]
        if (letters := expand(spec)) and (match["a"] or spec[0].isupper()):
            markers.append(Marker(match.start(), match.end(), letters, "reference", spec[0].islower()))
    return markers


def _ranges(caption: str, markers: list[Marker]) -> list[Marker]:
    """ "(a)–(c)" as one marker of three letters."""
    merged: list[Marker] = []
    for m in markers:
        last = merged[-1] if merged else None
        if (
            last
            and len(last.letters) == len(m.letters) == 1
            and re.fullmatch(rf"\s*(?:{DASH}|to)\s*", caption[last.end : m.start])
        ):
            letters = expand(f"{last.letters[0]}-{m.letters[0]}", m.style)
            if letters:
                merged[-1] = Marker(last.start, m.end, letters, m.style, m.lower)
                continue
        merged.append(m)
    return merged


_MEANING = r"\s?[,:=]\s?[^.;:]{2,70}[;,]\s(?:and\s)?"
_EXPLAINED = re.compile(rf"(?:^|[.;]\s)\s*(?:[A-Z][A-Za-z0-9+-]{{1,9}}|[a-z]\.[a-z]){_MEANING}(?:[A-Za-z]{_MEANING})*$")
"""The items of a list of abbreviations, "YS, yolk sac; ", after which a lone letter is an abbreviation, too."""


def _spoilt(caption: str, match: re.Match[str], style: str) -> bool:
    """Whether what stands around shows that this is no marker: part of a word or formula, an article, an initial."""
    before, after = caption[max(0, match.start() - 12) : match.start()], caption[match.end() : match.end() + 12]
    if re.search(r"\b[a-z]\.$", before):  # "s.e, standard error"
        return True
    if style in ("colon", "comma", "dash", "bare") and _EXPLAINED.search(caption[: match.start("spec")][-200:]):
        return True
    if style == "rparen":
        # "(see A)" and "f(x)" close a bracket that was opened before.
        opened = caption.rfind("(", 0, match.start())
        return opened > caption.rfind(")", 0, match.start()) and match.start() - opened < 60
    if style == "dot":
        # "A. thaliana", "vs. B.": a name of a species goes on in lower case in the middle of a sentence.
        inside = not re.search(r"[.;:)\]]\s*$|^\s*$|\band\s*$", before)
        return inside and bool(re.match(r"\s*[a-z]{3,}", after))
    if style == "bare":
        if re.match(r"\s+\d+-", after):  # "A 57-year-old"
            return True
        return match["spec"][0].islower() and not re.search(r"(?:^|[.;:,)?]\s*|\band\s)$", before)
    return False
