"""Finding panel markers in a caption: (A), A), A:, A., "A,", bare A, (a–c), (B and D), Panel A, (left).

Knows text alone. It lists every place that could be a marker, in each printed style; which of them define panels is decided in
`grammar`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

DASH = r"[-‐-―−]"
_LETTER = r"[A-Za-z](?:\d{1,2}(?!\d)|['′])?"
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
        rf"(?:{_START}(?!in\b){_NOUN}|(?:(?<=^)|(?<=[.;]\s))in)\s+\(?(?P<spec>{SPEC})\)?(?=[\s:.,;)]|$)\s*[:.,]?", re.I
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

_NOT_LETTERS = re.compile(r"(?i)^(?:h\s*(?:&|and|\+|/)\s*e|[ap]/[ap]|w/o|[hptn]/[hptn]|a\s*&\s*p)$")


@dataclass(frozen=True, slots=True)
class Marker:
    """A place in the caption that could name panels."""

    start: int  # first character of the marker, bracket included
    end: int  # one past its last
    letters: tuple[str, ...]  # upper case, ranges expanded
    style: str
    lower: bool  # printed in lower case


def expand(spec: str) -> tuple[str, ...]:
    """The letters of "A", "a–c", "B and D", "A1, A2" in upper case, without doubles; empty when it is no list of letters."""
    if _NOT_LETTERS.match(spec.strip()) or re.search(r"\d\s*−", spec):  # "a1 − a2" is a sum
        return ()
    parts = re.split(rf"({_JOIN})", spec)
    letters: list[str] = []
    for n in range(0, len(parts), 2):
        letter = parts[n].strip()[:1].upper()
        joint = parts[n - 1].strip().lower() if n else ""
        if joint and (re.fullmatch(DASH, joint) or joint in ("to", "through")):
            first = ord(letters[-1])
            if not first <= ord(letter) <= first + 25:
                return ()
            letters += [chr(c) for c in range(first + 1, ord(letter) + 1)]
        else:
            letters.append(letter)
    return tuple(dict.fromkeys(letters))


def find(caption: str, style: str) -> list[Marker]:
    """Every candidate of one style, in order of place."""
    found = []
    for match in STYLES[style].finditer(caption):
        spec = match["spec"]
        letters = expand(spec)
        start = match.start("spec") if style not in ("paren", "panel", "rparen", "numbered") else match.start()
        if letters and not _spoilt(caption, match, style):
            found.append(Marker(start, match.end(), letters, style, spec[0].islower()))
    return _ranges(caption, found)


def _ranges(caption: str, found: list[Marker]) -> list[Marker]:
    """ "(a)–(c)" as one marker of three letters."""
    joined: list[Marker] = []
    for m in found:
        last = joined[-1] if joined else None
        if (
            last
            and len(last.letters) == len(m.letters) == 1
            and re.fullmatch(rf"\s*(?:{DASH}|to)\s*", caption[last.end : m.start])
        ):
            letters = expand(f"{last.letters[0]}-{m.letters[0]}")
            if letters:
                joined[-1] = Marker(last.start, m.end, letters, m.style, m.lower)
                continue
        joined.append(m)
    return joined


def _spoilt(caption: str, match: re.Match[str], style: str) -> bool:
    """Whether what stands around shows that this is no marker: part of a word or formula, an article, an initial."""
    before, after = caption[max(0, match.start() - 12) : match.start()], caption[match.end() : match.end() + 12]
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
