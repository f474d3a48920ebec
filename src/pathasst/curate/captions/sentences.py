"""Which sentences of a caption speak of all its panels. Knows text alone."""

from __future__ import annotations

import re

_INK = r"(?:black |white |red |yellow |green |blue |open |solid |thick |thin |small |large )*"
_DEFINED = r"[A-Za-z0-9α-ωΑ-Ω/+'’-]{1,12}(?: [A-Za-z0-9+-]{1,12})?\s*[:=,]\s*[a-z][^;,.]{2,60}"  # an abbreviation and its meaning
_CLOSINGS = (
    r"original(?:ly)?\b",
    r"(?:final |low |high |total |all )?magnifications?\b",
    rf"(?:all |the )?{_INK}(?:scale )?bars?\b|scales?\b|(?:vertical|horizontal) bars?\b",
    r"abbreviations?\b|notes?\s*[:.]|see (?:also|text|fig|table|supp|additional)|(?:for|please) .{0,30}see\b",
    r"data (?:are|is|were|represent|shown)\b",
    r"(?:all )?(?:results|values|data|images|pictures|photos|photographs|"
    r"micrographs|sections|samples|experiments|panels|figures|views|slides)"
    r"\b.{0,60}\b(?:all|each|representative|expressed|presented|shown|taken|were|are)\b",
    rf"(?:the )?{_INK}(?:arrows?|arrowheads?|asterisks?|stars?|dashed|dotted)\b",
    r"(?:h\s*&\s*e|he|ha?ematoxylin|hes|pas|ihc|immunohistochemi\w+|immunoperoxidase)\b.{0,60}(?:stain\w*|magnification|antibod\w+)",
    r"(?:stain(?:ing|s)?|counterstain\w*|nuclei|dapi)\b|wt\b|lane \d|symbols\b|lines?\b",
    r"[*#†‡§]+\s*[,;:=]?\s*p|\*|p\s*[<=>]|p[- ]values?\b|n\s*=|statistic\w*|(?:the )?colou?rs?\b",
    rf"{_DEFINED}[;,.]\s*(?:and\s+)?{_DEFINED}",
    r"reproduced|adapted|courtesy|\(?magnification|similar results",
    r"each (?:point|bar|dot|value|symbol|column|line)\b|bars? (?:represent|indicate|show)",
)
"""How sentences begin that close a caption and speak of all its panels."""
_CLOSING = tuple(re.compile(rf"(?i)^\W*(?:{c})") for c in _CLOSINGS)
_SCALE = re.compile(
    r"(?i)\b(?:(?:original|final) magnifications?|scale bars?|bars?\s*[:=]|"
    r"all (?:panels|images|figures|cases|cores|graphs|experiments))\b"
)


def closing_kind(sentence: str) -> int | None:
    """Which kind of closing remark a sentence is (scale bar, stain, abbreviations, statistics …); None when it is none."""
    for n, pattern in enumerate(_CLOSING):
        if pattern.match(sentence):
            return n
    return len(_CLOSING) if _SCALE.search(sentence) else None


def tells_scale(sentence: str) -> bool:
    """Whether the sentence opens with a magnification or a scale bar: letters in it refer to panels and define none."""
    return any(_CLOSING[n].match(sentence) for n in range(3))
