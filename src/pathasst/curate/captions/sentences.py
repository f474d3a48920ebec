"""The sentences of a caption: where they end, and which of them speak of all panels. Knows text alone."""

from __future__ import annotations

import re

_SENTENCE = re.compile(
    r"(?<=[.?!])[)\]]?\s+(?=[(\[]?[A-Z0-9*×#“\"Δα-ω→−+]|[a-z]{1,3}[A-Z0-9])|(?<=[a-z)\]]\.)(?=[A-Z][a-z])",
)
_ABBREVIATION = re.compile(
    r"(?:(?<!&)(?<!& )\b(?:[A-Z]|vs|spp?|cf|ca|approx|al|e\.g|i\.e|etc|Figs?|figs?|Ref|No|no|Dr|St|"
    r"resp|var|subsp|sp\. n|Inc|Co|Ltd|Corp|mag|orig))\.$"
)
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


def sentences(text: str, start: int = 0, end: int | None = None) -> list[tuple[int, int]]:
    """Spans of the sentences between two places of a text; abbreviations and initials do not end one."""
    end = len(text) if end is None else end
    spans, begin = [], start
    for match in _SENTENCE.finditer(text, start, end):
        if _ABBREVIATION.search(text[begin : match.start()]):
            continue
        spans.append((begin, match.start()))
        begin = match.end()
    spans.append((begin, end))
    return [(a, b) for a, b in spans if text[a:b].strip()]


def closing_kind(sentence: str) -> int | None:
    """Which kind of closing remark a sentence is (scale bar, stain, abbreviations, statistics …); None when it is none."""
    for n, pattern in enumerate(_CLOSING):
        if pattern.match(sentence):
            return n
    return len(_CLOSING) if _SCALE.search(sentence) else None


def tells_scale(sentence: str) -> bool:
    """Whether the sentence opens with a magnification or a scale bar: letters in it refer to panels and define none."""
    return any(_CLOSING[n].match(sentence) for n in range(3))
