"""Numbers, scales, places and names as people type them. Knows words alone; no tool and no schema.

A small language model copies a coordinate wrongly now and then; a pattern does not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

Span = tuple[int, int]  # first character, and one beyond the last

_NUMBER = re.compile(
    r"(?<![A-Za-z0-9_.+])(?<![A-Za-z]-)(?:(?<![(\[])0,\d+|\d+(?:\.\d+)?)(?![\d+]|[.,]\d|-?[A-Za-z])"
    r"|(?<![A-Za-z0-9_.+])\d+(?:\.\d+)?(?=\s?(?:[x×](?![A-Za-z])|-?fold|-?fach|um|µm|μm))"
)
_SMALL = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_COUNTED = {w: n for n, w in enumerate(_SMALL, 2)} | {
    "half a dozen": 6,
    "a dozen": 12,
    "twenty": 20,
    "a couple": 2,
    "a pair": 2,
}
_WORD = re.compile(rf"\b(?:{'|'.join(_COUNTED)})\b", re.IGNORECASE)
_OTHER = {  # number words of other languages: only where a router says that a number stands
    word: n
    for words in (
        "zwei drei vier fünf sechs sieben acht neun zehn elf zwölf",
        "deux trois quatre cinq six sept huit neuf dix onze douze",
        "dos tres cuatro cinco seis siete ocho nueve diez once doce",
        "due tre quattro cinque sei sette otto nove dieci undici dodici",
        "二 三 四 五 六 七 八 九 十 十一 十二",
    )
    for n, word in enumerate(words.split(), 2)
} | {
    "两": 2,
    "couple": 2,
    "dozen": 12,
    "zwanzig": 20,
    "vingt": 20,
    "veinte": 20,
    "venti": 20,
    "二十": 20,
    "fuenf": 5,
    "zwoelf": 12,
}

_NUMBER_WORDS = "|".join(sorted((w for w in _OTHER if w.isascii() or len(w) > 2), key=len, reverse=True))
_AMOUNTS = re.compile(  # how many of something, in other languages; "due", "sei" and "once" mean other things elsewhere
    rf"(?<![^\W_])(?!due|sei|once|six|couple|dozen)({_NUMBER_WORDS})\s+(?:[^\W\d_]+)"
    r"|((?<!\d)\d{1,9}|二十|十[一二]|[二两三四五六七八九十])(?=[篇个张幅例])",
    re.IGNORECASE,
)

# A number is read from its first digit on; from each of its digits, one of 50,000 would take a minute.
_N = r"(?<!\d)((?<![(\[])0,\d+|\d+(?:\.\d+)?)"
_S = r"(?<!\d)((?<![A-Za-z])\d,\d+|\d+(?:\.\d+)?)"  # a number with its unit, in which a comma parts no two numbers
_UM = r"(?:µm|μm|um|microns?|micromet(?:re|er)s?|mikrometer|mikron|micras?|micromètres?|micrómetros?|micrometri|微米)"
_PX = r"(?:px|pixels?|pix|píxele?s?|像素)(?![A-Za-z])"
_SCALES = (
    (re.compile(rf"{_S}\s*{_UM}\s*(?:/|per|a|each|for each|pro|je|par|por|al|每)?\s*(?:one\s+)?{_PX}", re.IGNORECASE), 1.0),
    (re.compile(rf"{_S}\s*(?:nm|nanomet(?:re|er)s?|纳米)\s*(?:/|per|a|pro|par|por)\s*{_PX}", re.IGNORECASE), 0.001),
    (
        re.compile(
            rf"(?<![A-Za-z])(?:{_PX}|mpp|resolution|scale|pixelgr\w+|auflösung|maßstab|échelle|résolution|escala|resolución|scala|"
            rf"risoluzione|分辨率|像素)\D{{0,24}}?{_S}\s*{_UM}"
            r"(?!\s*(?:wide|long|thick))",
            re.IGNORECASE,
        ),
        1.0,
    ),
    (re.compile(rf"{_S}[\s-]*(?:{_UM})[\s-]*{_PX}", re.IGNORECASE), 1.0),
    (re.compile(rf"(?<![A-Za-z])mpp\D{{0,6}}{_S}|{_S}\s*mpp(?![A-Za-z])", re.IGNORECASE), 1.0),
)
_YEAR = r"(?<!\d)(?<!\d[.,])((?:18|19|20)\d\d)(?![\d%]|[.,]\d)\s*年?"
_THE_YEAR = r"\s*(?:the\s+year\s+|years?\s+|dem\s+jahr\s+|l'année\s+|el\s+año\s+|año\s+|il\s+|l'anno\s+|anno\s+)?"
_YEARS = re.compile(  # of several forms the first that fits: a range, the last year, the first, the only one
    rf"(?:(?:(?<![^\W_])(?:from|between|of|in|von|zwischen|de|entre|del?|desde|dal|tra|fra){_THE_YEAR})?{_YEAR}\s*(?:-|–|—|to|and|until|till|bis|und|à|et|al?|hasta|y|fino\s+al|e|到|至){_THE_YEAR}{_YEAR})"
    rf"|(?<![^\W_])(?:until|till|up\s+to|before|earlier\s+than|older\s+than|prior\s+to|bis|vor|jusqu'(?:en|à)|avant|hasta|antes\s+del?"
    rf"|fino\s+a(?:l|d)?|prima\s+del?){_THE_YEAR}{_YEAR}"
    rf"|{_YEAR}(?:以前|之前|及以前)"
    rf"|(?<![^\W_])(?:since|after|newer\s+than|later\s+than|seit|ab|nach|depuis|apr[èe]s|à\s+partir\s+de|a\s+partir\s+d[ei]l?|desde"
    rf"|despu[ée]s\s+del?|dal|dopo){_THE_YEAR}{_YEAR}"
    rf"|(?<![^\W_])(?:from|von){_THE_YEAR}{_YEAR}(?=\s+(?:on|onwards?|and\s+later|an)(?![^\W_]))"
    rf"|{_YEAR}(?:以来|以后|之后|起)"
    rf"|(?<![^\W_])(?:in|from|of|im\s+jahre?|en|nel|von|del){_THE_YEAR}{_YEAR}",
    re.IGNORECASE,
)
_POWER = r"(4|5|10|20|40|60|63|100)"
_OBJECTIVE = re.compile(
    rf"(?<![A-Za-z0-9.])[x×]{_POWER}(?![\d.=]|\s*[,;]?\s*[yY]\s?[=\d])"
    rf"|(?<![A-Za-z0-9.]){_POWER}\s?(?:[x×](?![A-Za-z0-9])|-?fold objective|er[\s-]?objektiv|-?fache?r? vergr|倍)"
    rf"|(?:×|(?:objecti\w+|obiettivo|objetivo|objektiv|grossissement|aumento|aumentos|ingrandimento|magnification|at)\s+x)\s?"
    rf"{_POWER}(?![A-Za-z0-9]|\s*[,;]?\s*[yY]\s?[=\d])",
    re.IGNORECASE,
)
_MICRONS_AT_ONE = 10.0  # a common scanner has 0.5 µm a pixel at 20×, 0.25 at 40×

_LABEL = r"(?:[xy]\d?|left|top|right|bottom|row|col(?:umn)?)\s*[=:]?\s*"
_PAIR = re.compile(
    rf"(?:\b({_LABEL}))?(?<![A-Za-z0-9_.]){_N}\s*(?:[,;/]|\s)\s*(?:and\s+)?(?:\b({_LABEL}))?(?<![A-Za-z0-9_.]){_N}"
    r"(?![A-Za-z0-9_.]*[A-Za-z0-9_]|\s*(?:%|x\b|×))",
    re.IGNORECASE,
)
_RANGES = re.compile(
    rf"\b([xy])\s*[=:]?\s*(?:from\s+|between\s+)?{_N}\s*(?:-|–|\.\.|to|and)\s*{_N}\s*[,;]?\s*(?:and\s+)?([xy])\s*[=:]?\s*(?:from\s+|between\s+)?{_N}\s*(?:-|–|\.\.|to|and)\s*{_N}",
    re.IGNORECASE,
)
_BOX = re.compile(
    r"\b(?:b?box|bounding|rect\w*|region|roi|frame\w*|corners?|limits?|window|bounded|between|from|rechteck\w*|inhalt|re?[ci]uadro)\b|框",
    re.IGNORECASE,
)
_INSIDE = re.compile(r"\b(?:in|inside|within|into|to)\s*[(\[]?\s*$", re.IGNORECASE)
_APART = re.compile(r"\b(?:the|an?|another|other|that|next|separately)\b(?!\s+(?:point|click|seed|same|second))", re.IGNORECASE)
_NOT = re.compile(
    r"不要|不包括|不是|除(?:了|去)|(?<!why )\b(?:nicht|ohne|außer|kein\w*|pas|sans|sauf|sin|salvo|excepto|non|senza|tranne|"
    r"not|no|without|except|exclud\w*|outside|background|negative|ignor\w*|avoid\w*|never|unlike|leave out)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Place:
    """A point (2 values) or a box (4), in px."""

    values: tuple[float, ...]
    span: Span
    excluded: bool = False  # the words say that it is not meant
    apart: bool = False  # another object than the place before it


def numbers(words: str) -> list[tuple[float, Span]]:
    """Every number that stands for itself, in digits or as a word; none inside a name (Ki67, 3+, p16), nor `one`.

    >>> numbers("Ki67, three papers, threshold 0.4")
    [(3, (6, 11)), (0.4, (30, 33))]
    """
    values = [(_plain(m[0]), m.span()) for m in _NUMBER.finditer(words)]
    values += [(_COUNTED[m[0].lower()], m.span()) for m in _WORD.finditer(words)]
    return sorted(values, key=lambda v: v[1])


def number_in(words: str) -> float | None:
    """The number that a stretch of words says, in digits or as a word of six languages; None where it says none.

    >>> number_in("drei"), number_in("0,4"), number_in("十")
    (3, 0.4, 10)
    """
    if match := re.search(r"\d+(?:[.,]\d+)?", words):
        return _plain(match[0])
    if named := numbers(words):
        return named[0][0]
    bare = words.strip(" .,;:!?()").lower()
    return next((_OTHER[w] for w in (bare, *bare.split()) if w in _OTHER), None)


def amounts(words: str) -> list[tuple[float, Span]]:
    """How many of something are wanted, as number words of German, French, Spanish, Italian and Chinese say it.

    >>> amounts("fünf Arbeiten"), amounts("给我3篇")
    ([(5, (0, 4))], [(3, (2, 3))])
    """
    matches = [(number_in(m[m.lastindex or 1]), m.span(m.lastindex or 1)) for m in _AMOUNTS.finditer(words)]
    return [(value, span) for value, span in matches if value is not None]


def years(words: str) -> tuple[int | None, int | None, Span] | None:
    """The first and the last year of publication that words ask for, and where they stand; None where they name none.

    `since 2015` is (2015, None), `until 2010` (None, 2010), `between 2005 and 2010` (2005, 2010), `in 2014` (2014, 2014).
    """
    match = _YEARS.search(words)
    if match is None:
        return None
    first, last, until, until_zh, since, since_from, since_zh, only = (int(g) if g else None for g in match.groups())
    if first and last:
        return min(first, last), max(first, last), match.span()
    return since or since_from or since_zh or only, until or until_zh or only, match.span()


def scale(words: str) -> tuple[float, Span] | None:
    """Micrometres per pixel, if the words give them or an objective (20×: 0.5), and where."""
    for pattern, factor in _SCALES:
        if match := pattern.search(words):
            value = next(g for g in match.groups() if g)
            return round(float(value.replace(",", ".")) * factor, 6), match.span()
    if match := _OBJECTIVE.search(words):
        return round(_MICRONS_AT_ONE / float(next(filter(None, match.groups()))), 4), match.span()
    return None


def places(words: str) -> list[Place]:
    """Points and boxes, in the order of the words.

    >>> [p.values for p in places("the gland at x=30, y=40 but not (90, 70)")]
    [(30, 40), (90, 70)]
    """
    if match := _RANGES.search(words):
        first, a, b, _, c, d = match.groups()
        x, y = ((a, b), (c, d)) if first.lower() == "x" else ((c, d), (a, b))
        return [Place((_plain(x[0]), _plain(y[0]), _plain(x[1]), _plain(y[1])), match.span())]
    pairs = [_pair(m) for m in _PAIR.finditer(words)]
    result: list[Place] = []
    while pairs:
        values, span = pairs.pop(0)
        between = words[result[-1].span[1] if result else 0 : span[0]]
        corners: tuple[float, ...] = values
        joint = words[span[1] : pairs[0][1][0]] if pairs else ""
        if pairs and _is_box(joint, words[: span[0]], words[pairs[0][1][1] :]):
            second, end = pairs.pop(0)
            corners, span = (*values, *second), (span[0], end[1])
        nearest = " ".join(re.split(r"[.!?;]\s", between)[-1].split()[-6:])
        result.append(Place(corners, span, bool(_NOT.search(nearest)), bool(result) and bool(_APART.search(between))))
    return result


def spelled(values: Sequence[str], words: str) -> list[tuple[str, Span]]:
    """Those of `values` that stand in the words, whatever their hyphens and capitals; the longer of two that overlap.

    >>> spelled(["ASC-US", "ASC-H"], "an asc h cell")
    [('ASC-H', (3, 8))]
    """
    matches: list[tuple[str, Span]] = []
    for value in sorted(values, key=len, reverse=True):
        pieces = r"[\W_]?".join(map(re.escape, re.findall(r"[^\W_]+", value)))
        for match in re.finditer(rf"(?<![^\W_]){pieces}s?(?![^\W_])", words, re.IGNORECASE):
            if pieces and not any(s[0] < match.end() and match.start() < s[1] for _, s in matches):
                matches.append((value, match.span()))
    return sorted(matches, key=lambda f: f[1])


def negated(words: str, start: int) -> bool:
    """Whether the three words before `start` say no."""
    return bool(_NOT.search(" ".join(words[:start].split()[-3:])))


def _pair(match: re.Match[str]) -> tuple[tuple[float, float], Span]:
    first, a, second, b = match.groups()
    swapped = bool(first) and first.strip().lower()[0] in "ytbr" and bool(second) and second.strip().lower()[0] in "xlc"
    return ((_plain(b), _plain(a)) if swapped else (_plain(a), _plain(b))), match.span()


def _is_box(joint: str, before: str, after: str) -> bool:
    """Whether two pairs are the corners of one box: four numbers in a row, or words near them that say so."""
    if re.fullmatch(r"[\s,;/]*|\s*[xy]\d\s*[=:]?\s*", joint):
        return True
    if len(joint) > 40 or _NOT.search(joint):
        return False
    near = f"{' '.join(before.split()[-8:])} . {joint} . {' '.join(after.split()[:3])}"
    return bool(_BOX.search(near) or _INSIDE.search(before) or re.search(r"\bto\b|–|\s-\s", joint))


def _plain(text: str) -> float:
    text = text.replace(",", ".")
    # Python refuses to read integers of thousands of digits
    return float(text) if "." in text or len(text) > 15 else int(text)
