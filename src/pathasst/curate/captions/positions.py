"""Captions that name panels by place: "Left: …. Right: …", "… (top) and … (bottom)". Knows text alone."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pathasst.curate.captions.markers import POSITIONS

_THING = r"(?:[\s-]+(?:panels?|images?|columns?|rows?|side|hand))?"
_LABEL = re.compile(rf"(?:(?<=^)|(?<=[.;:]\s))(?P<name>{POSITIONS}){_THING}\s*[:,=–—]\s+", re.I)
_BRACKET = re.compile(rf"\((?:the\s+)?(?P<name>{POSITIONS}){_THING}\)", re.I)


@dataclass(frozen=True, slots=True)
class CaptionPosition:
    """One place of a caption: its name in upper case, the words before all, its own, the words after all."""

    name: str
    lead: str
    own: str
    tail: str = ""


def split_positions(caption: str) -> list[CaptionPosition]:
    """The places that the caption describes, or an empty list when it names fewer than two different ones."""
    for pattern, after in ((_LABEL, False), (_BRACKET, True)):
        marks = list(pattern.finditer(caption))
        names = [_name(m) for m in marks]
        if len(marks) < 2 or len(set(names)) < len(names):
            continue
        if after:
            return _suffix(caption, marks, names)
        ends = [m.start() for m in marks[1:]] + [len(caption)]
        lead = caption[: marks[0].start()].strip()
        return [CaptionPosition(n, lead, caption[m.end() : e].strip(" ;,")) for m, n, e in zip(marks, names, ends, strict=True)]
    return []


def _suffix(caption: str, marks: list[re.Match[str]], names: list[str]) -> list[CaptionPosition]:
    start = max(caption.rfind(". ", 0, marks[0].start()) + 1, 0)
    lead, places = caption[:start].strip(), []
    tail = caption[marks[-1].end() :].strip(" ;,.")
    for mark, name in zip(marks, names, strict=True):
        own = re.sub(r"(?i)^[\s,;.]*(?:and\b)?\s*", "", caption[start : mark.start()]).strip(" ;,")
        places.append(CaptionPosition(name, lead, own, tail))
        start = mark.end()
    return places


def _name(match: re.Match[str]) -> str:
    return re.sub(r"[\s-]+", " ", match["name"]).upper().replace("CENTRE", "CENTER")
