"""Labels of two parts, "(A-i)", "(A1)", "(Bii)", and other prints of a label, in the plain letters that the grammar reads.

Knows text alone. What comes back is as long as the caption, character by character, so that places found in it are places of the
caption. A label is never read as a range that it is not: "(A-i)" names one panel, not nine.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pathasst.curate.captions.markers import expand, label_at

_DASH = "-‐‑‒–—"
_ROMANS = ("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x")
_ROMAN = r"(?:i{1,3}|iv|vi{0,3}|ix|x)"
_SUB = rf"(?:\s?[{_DASH}.]\s?(?:{_ROMAN}|\d)|\s?\d|i{{1,3}}|iv)"  # not "(Cx)", "(Av)"
_LABEL = re.compile(rf"(?P<main>[A-Za-z])(?P<sub>{_SUB})?(?!\w)")
_TWO = rf"[A-Za-z]{_SUB}?(?!\w)"
_JOIN = rf"\s*(?:,|;|/|&|and|[{_DASH}]|to)\s*"
_LIST = re.compile(
    rf"[(\[]\s*(?P<in>{_TWO}(?:{_JOIN}(?:{_TWO}|{_ROMAN}|\d))*)(?=\s*[)\],;:.])"  # in brackets
    rf"|(?:^|(?<=[.;]\s))(?P<open>[A-Za-z]{_SUB}(?:{_JOIN}[A-Za-z]{_SUB})*|[A-Za-z])(?=[).:,|]\s|\s[|:]\s)"  # opening a sentence
)
_JOINED = re.compile(rf"(?P<range>\s*(?:[{_DASH}]|to)\s*)|(?:\s*(?:,|;|/|&|and)\s*)")
_BARE = re.compile(rf"(?:{_ROMAN}|\d)(?!\w)")
_BAR = re.compile(r"(?:(?<=^)|(?<=[.;]\s))(?P<spec>[A-Za-z](?:\s*[-–,]\s*[A-Za-z])*)\s(?P<bar>\|)(?=\s)")
_RESPECTIVELY = re.compile(r"(?<=[A-Za-z])(?P<word>\s*,?\s*(?:respectively|resp\.?))(?=\s*\))", re.I)
_REMARK = re.compile(r"\(\s*(?P<letter>[A-Za-z])(?P<remark>\s*,\s+(?!and\b|or\b)[a-z][a-z\s-]{2,40})\)")
_STAINED = re.compile(rf"\((?P<remark>[^()]{{3,40}}?),\s(?P<spec>[A-Z](?:{_JOIN}[A-Z])*)\)")
_ALONE = re.compile(rf"\(\s*(?P<spec>[A-Z](?:{_JOIN}[A-Z])*)\s*\)")
_WIDE = str.maketrans({chr(c): chr(c - 0xFEE0) for c in range(0xFF01, 0xFF5F)})


@dataclass(frozen=True, slots=True)
class Plain:
    """A caption with one letter for each label, and the label that each letter stands for."""

    text: str  # as long as the caption
    names: dict[str, str]  # letter → label as printed, in upper case: "A" → "A1"; empty when the letters are the labels


@dataclass(frozen=True, slots=True)
class _Label:
    start: int
    end: int
    main: str
    sub: int  # from 1; 0: a letter alone
    name: str
    through: bool = False  # the end of a range


def plain(caption: str, apart: bool = True) -> Plain:
    """The caption in plain letters. `apart`: labels of two parts are panels of their own; otherwise they are their letter's."""
    text = caption.translate(_WIDE)
    text = _BAR.sub(lambda m: m[0].replace("|", ":"), text)
    text = _RESPECTIVELY.sub(lambda m: " " * len(m[0]), text)
    if len({m["letter"] for m in _REMARK.finditer(text)}) > 1:  # "CK7 (A, positive) and CK20 (B, negative)"
        text = _REMARK.sub(lambda m: f"({m['letter']}{' ' * len(m['remark'])})".rjust(len(m[0])), text)
    labels = _labels(text)
    if not labels:
        return Plain(text, {})
    letters = _letters(labels) if apart else {}
    for label in reversed(
        labels if letters else [x for x in labels if not re.fullmatch(r"\w\d", x.name)]
    ):  # the grammar reads "(A1)"
        letter = letters.get((label.main, label.sub), label.main)
        stop = label.end + (text[label.end : label.end + 1] in (",", ".", ":"))  # "A1, H&E" → "A,  H&E"
        text = text[: label.start] + (letter + text[label.end : stop]).ljust(stop - label.start) + text[stop:]
    if not letters:
        return Plain(text, {})
    names = {label.name: letters[label.main, label.sub] for label in labels}
    first: dict[str, str] = {}
    for name, letter in names.items():
        first.setdefault(letter.upper(), name.upper())
    for (main, sub), letter in letters.items():  # inside of a range: "(A1–A3)"
        first.setdefault(letter.upper(), f"{main}{sub}".upper())
    return Plain(text, dict(sorted(first.items())))


def remarks_out(caption: str) -> str:
    """ "(anti-CD20, A–D) and (anti-CD34, E–H)" as " anti-CD20 (A–D) and  anti-CD34 (E–H)", of the same length.

    The words are the panels', the letters mark them. Only where these letters and those alone in brackets are A, B, C …."""
    alone = {x for m in _ALONE.finditer(caption) for x in expand(m["spec"])}
    after_remarks = [x for m in _STAINED.finditer(caption) for x in expand(m["spec"])]
    if (
        not after_remarks
        or set(after_remarks) & alone
        or sorted({*after_remarks, *alone}) != [label_at("A", n) for n in range(len({*after_remarks, *alone}))]
    ):
        return caption
    return _STAINED.sub(lambda m: f" {m['remark']} ({m['spec']})", caption)


def _labels(text: str) -> list[_Label]:
    """Every label of two parts that stands where a panel is named, of letters that have two or more of them in all."""
    labels: list[_Label] = []
    for match in _LIST.finditer(text):
        group = "in" if match["in"] else "open"
        labels += _listed(text, match.start(group), match.end(group))
    if any(x.name in _ROMANS and x.sub for x in labels):  # "(ii)" is no part of "(i)"
        return []
    # "(a-i)" alone is a range; beside "(a-ii)" it is a label. So is "(A-i)" always: no range changes its case.
    several = any(x.main == y.main and x.sub and y.sub and x.sub != y.sub for x in labels for y in labels)
    two = [x for x in labels if x.sub and (several or (x.main.isupper() and x.name[1:].strip(_DASH + ". ").islower()))]
    return [x for x in labels if x in two or not x.sub] if two else []


def _listed(text: str, start: int, stop: int) -> list[_Label]:
    labels: list[_Label] = []
    place, through = start, False
    while place < stop:
        if labels and labels[-1].sub and (bare := _BARE.match(text, place, stop)):  # "(A1-3)", "(A-i,ii)"
            main, sub, end = labels[-1].main, bare[0], bare.end()
            name = labels[-1].name.rstrip("ivx0123456789") + sub
        elif match := _LABEL.match(text, place, stop):
            main, sub, end = match["main"], (match["sub"] or "").strip(_DASH + ". "), match.end()
            name = re.sub(r"\s", "", match[0])
        else:
            return []
        number = int(sub) if sub.isdigit() else _ROMANS.index(sub) + 1 if sub else 0
        labels.append(_Label(place, end, main, number, name, through))
        joint = _JOINED.match(text, end, stop)
        if joint is None:
            return labels if end >= stop else []
        place, through = joint.end(), joint["range"] is not None
    return labels


def _letters(labels: list[_Label]) -> dict[tuple[str, int], str]:
    """A letter of its own for each label, A, B, C … in order; none where labels do not run A1, A2 …, B1 …, or where some letters
    stand alone: "(A1) and (A2) … (B)" are the panels A and B, and 1 and 2 parts of A."""
    keys: dict[tuple[str, int], None] = {}
    for n, label in enumerate(labels):
        before = labels[n - 1]
        if label.through and label.main == before.main:
            keys.update({(label.main, sub): None for sub in range(before.sub, label.sub)})
        keys[label.main, label.sub] = None
    order = sorted(keys)
    mains = list(dict.fromkeys(main for main, _ in order))
    runs = {m: [sub for main, sub in order if main == m] for m in mains}
    lowers = {m.islower() for m in mains}
    steady = all(subs == list(range(1, len(subs) + 1)) for subs in runs.values())
    if len(lowers) > 1 or not steady or len(order) > 26 or mains[0].upper() != "A":
        return {}
    if [ord(m) - ord(mains[0]) for m in mains] != list(range(len(mains))):
        return {}
    return {key: chr(ord(mains[0]) + n) for n, key in enumerate(order)}
