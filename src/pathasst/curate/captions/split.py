"""Splitting a caption: each panel's own words, the words of all, in the caption's order (paper, PathCap step 2).

Knows text alone: `grammar` finds the markers, this module deals out the words. Every word that is given out stands in the source,
in the source's order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from pathasst.curate.captions.grammar import Chain, best_chain, stance
from pathasst.curate.captions.markers import Marker
from pathasst.curate.captions.positions import split_positions

_SENTENCE = re.compile(r"(?<=[.?!])[)\]]?\s+(?=[(\[]?[A-Z0-9*×#“\"Δα-ω→])|(?<=[a-z)\]]\.)(?=[A-Z][a-z])")
_ABBREVIATION = re.compile(
    r"(?:\b(?:[A-Z]|vs|spp?|cf|ca|approx|al|e\.g|i\.e|etc|Figs?|figs?|Ref|No|no|Dr|St|"
    r"resp|var|subsp|sp\. n|Inc|Co|Ltd|Corp|mag|orig))\.$"
)
_INK = r"(?:black |white |red |yellow |green |blue |open |solid |thick |thin |small |large )*"
_CLOSINGS = (
    r"original(?:ly)?\b",
    r"(?:final |low |high |total |all )?magnifications?\b",
    rf"(?:all |the )?{_INK}(?:scale )?bars?\b|scales?\b|(?:error|vertical|horizontal|whisker) bars?\b",
    r"abbreviations?\b|notes?\s*[:.]|see (?:also|text|fig|table|supp|additional)|(?:for|please) .{0,30}see\b",
    r"data (?:are|is|were|represent|shown)\b",
    r"(?:all )?(?:results|values|data|images|pictures|photos|photographs|"
    r"micrographs|sections|samples|experiments|panels|figures|views|slides)"
    r"\b.{0,60}\b(?:all|each|representative|expressed|presented|shown|taken|were|are)\b",
    rf"(?:the )?{_INK}(?:arrows?|arrowheads?|asterisks?|stars?|dashed|dotted)\b",
    r"(?:h\s*&\s*e|he|ha?ematoxylin|hes|pas|ihc|immunohistochemi\w+|immunoperoxidase)\b.{0,60}(?:stain\w*|magnification|antibod\w+)",
    r"(?:stain(?:ing|s)?|counterstain\w*|nuclei|dapi)\b|wt\b|lane \d|symbols\b|lines?\b",
    r"[*#†‡§]+\s*[,;:=]?\s*p|\*|p\s*[<=>]|p[- ]values?\b|n\s*=|statistic\w*|(?:the )?colou?rs?\b",
    r"[A-Za-z0-9α-ωΑ-Ω/ +'’-]{1,24}\s*[:=,]\s*[a-z].{2,60}[;,.]",
    r"reproduced|adapted|courtesy|\(?magnification|similar results",
    r"each (?:point|bar|dot|value|symbol|column|line)\b|bars? (?:represent|indicate|show)",
)
"""How sentences begin that close a caption and speak of all its panels."""
_SHARED = re.compile(rf"(?i)^\W*(?:{'|'.join(_CLOSINGS)})")
_SCALE = re.compile(
    r"(?i)\b(?:magnifications?|scale bars?|bars?\s*[:=]|original|all (?:panels|images|figures|cases|cores|graphs|experiments))\b"
)
_STOPPED = re.compile(r"[.?!][)\]\"”]?\s*$")
_TRAIL = re.compile(r"(?i)[\s,;:(\[]*(?:\b(?:and|or|whereas|while|but)\b)?[\s,;:(\[]*$")


@dataclass(frozen=True, slots=True)
class SubCaption:
    """One panel's words."""

    letter: str  # upper case: A, B …; a position (LEFT, TOP RIGHT) where the caption names positions; empty for the whole
    text: str  # shared words folded in
    own: str = ""  # its own words alone
    shared: str = ""


@dataclass(slots=True)
class _Words:
    """Spans of the source by owner, gathered in order."""

    caption: str
    spans: list[tuple[int, int, frozenset[str]]] = field(default_factory=list)

    def give(self, start: int, end: int, letters: Sequence[str]) -> None:
        while start < end and self.caption[start] in " ,;:.)]\n\t–-":
            start += 1
        while end > start and self.caption[end - 1] in " ,;:([\n\t":
            end -= 1
        if end > start:
            self.spans.append((start, end, frozenset(letters)))

    def of(self, letter: str) -> str:
        return _join(self.caption[a:b] for a, b, who in sorted(self.spans, key=lambda s: s[:2]) if letter in who)

    def common(self, letters: Sequence[str], *, shared: bool, letter: str) -> str:
        full = frozenset(letters)
        mine = [(a, b) for a, b, who in sorted(self.spans, key=lambda s: s[:2]) if letter in who and (who == full) == shared]
        return _join(self.caption[a:b] for a, b in mine)


def split(caption: str, letters: Sequence[str] = ()) -> list[SubCaption]:
    """The sub-captions of a caption in order of letters; one with the letter "" when it names no panels.

    `letters`: those printed in the picture, when surely known. They settle doubtful cases, and the panels they name are the ones
    that come back: a letter that the caption does not explain gets the words shared by all, one that is not printed is left out.
    """
    caption = caption.strip()
    hint = tuple(dict.fromkeys(x.upper() for x in letters if x))
    chain = best_chain(caption, hint)
    if chain is None and len(hint) > 1:
        return [SubCaption(x, caption, "", caption) for x in hint]
    if chain is None:
        parts = split_positions(caption)
        if parts:
            return [SubCaption(p.name, _join([p.lead, p.own, p.tail]), p.own, _join([p.lead, p.tail])) for p in parts]
        return [SubCaption("", caption, caption, "")]
    words = _Words(caption)
    _deal(words, chain)
    everyone = chain.letters
    named = [
        SubCaption(x, words.of(x), words.common(everyone, shared=False, letter=x), words.common(everyone, shared=True, letter=x))
        for x in everyone
        if not hint or x in hint or len(hint) < 2
    ]
    common = named[0].shared if named else ""
    return named + [SubCaption(x, common, "", common) for x in hint if x not in everyone and common]


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


def _deal(words: _Words, chain: Chain) -> None:
    """Give every stretch between markers to its panels, run by run of markers that stand alike."""
    caption, markers = words.caption, chain.markers
    lean = sum(stance(caption, m) for m in markers)
    before = [_before(caption, m, lean) for m in markers]
    n, cursor = 0, 0
    while n < len(markers):
        stop = n
        while stop + 1 < len(markers) and before[stop + 1] == before[n]:
            stop += 1
        run = markers[n : stop + 1]
        limit = markers[stop + 1].start if stop + 1 < len(markers) else len(caption)
        final = stop + 1 == len(markers)
        deal = _deal_prefix if before[n] else _deal_suffix
        cursor = deal(words, run, chain.letters, cursor, limit, first=n == 0, final=final)
        n = stop + 1


def _before(caption: str, marker: Marker, lean: float) -> bool:
    own = stance(caption, marker)
    if lean >= 0:
        return own > -2.0
    return own >= 2.0


def _deal_prefix(
    words: _Words, run: Sequence[Marker], letters: Sequence[str], cursor: int, limit: int, *, first: bool, final: bool
) -> int:
    """Markers before their text. Returns where the next run may begin."""
    caption = words.caption
    lead = _open_lead(caption, run, cursor)
    words.give(cursor, lead[0] if lead else run[0].start, letters if first else run[0].letters)
    for n, marker in enumerate(run):
        last = n + 1 == len(run)
        end = limit if last else run[n + 1].start
        if last and not final:
            end = sentences(caption, marker.end, limit)[0][1] if limit > marker.end else limit
        begin = marker.end
        if lead:
            words.give(*lead, marker.letters)
        if last and final:
            end = _tail(words, run, begin, end, letters)
        elif not last:
            cut = _local_lead(caption, begin, end)
            if cut is not None:
                words.give(begin, cut, marker.letters)
                lead = (cut, end)
                continue
            if _closes(caption, begin, end):
                lead = None
        words.give(begin, end, marker.letters)
    return limit if final else max(m.end for m in run) if not run else _end_of(caption, run, limit, final)


def _open_lead(caption: str, run: Sequence[Marker], cursor: int) -> tuple[int, int] | None:
    """The unfinished sentence before the first marker, where later groups of markers have one of their own too."""
    spans = sentences(caption, cursor, run[0].start)
    if len(spans) < 2 or caption[: run[0].start].rstrip().endswith((".", ":", ";")):
        return None
    again = any(_local_lead(caption, a.end, b.start) for a, b in pairwise(run))
    return spans[-1] if again else None


def _end_of(caption: str, run: Sequence[Marker], limit: int, final: bool) -> int:
    return limit if final else sentences(caption, run[-1].end, limit)[0][1] if limit > run[-1].end else limit


def _closes(caption: str, begin: int, end: int) -> bool:
    return caption[begin:end].rstrip().endswith(".")


def _local_lead(caption: str, begin: int, end: int) -> int | None:
    """Where, in a panel's stretch, the words that introduce the next markers begin: "… stroma. Bladder tissue from (F) …"."""
    spans = sentences(caption, begin, end)
    if len(spans) < 2:
        return None
    tail = caption[spans[-1][0] : spans[-1][1]].rstrip()
    if tail.endswith((".", ";", ")", "]", "?", "!")) or re.search(r"(?i)\band$", tail):
        return None
    return spans[-1][0]


def _tail(words: _Words, run: Sequence[Marker], begin: int, end: int, letters: Sequence[str]) -> int:
    """Give closing remarks to every panel; returns where the last panel's own words end."""
    caption = words.caption
    spans = sentences(caption, begin, end)
    if len(run) > 1 and spans and not any(_STOPPED.search(caption[: m.start][-6:]) for m in run[1:]):
        own_end = _list_tail(words, run, spans[0])
        if own_end is not None:
            if len(spans) > 1:
                words.give(spans[1][0], end, letters)
            return own_end
        if len(spans) > 1 and len(letters) > 1:
            words.give(spans[1][0], end, letters)
            return spans[0][1]
    cut = len(spans)
    while cut > 1 and _is_shared(caption[spans[cut - 1][0] : spans[cut - 1][1]]):
        cut -= 1
    if cut < len(spans):
        words.give(spans[cut][0], end, letters)
        return spans[cut - 1][1]
    return end


def _is_shared(sentence: str) -> bool:
    return bool(_SHARED.match(sentence) or _SCALE.search(sentence))


def _list_tail(words: _Words, run: Sequence[Marker], span: tuple[int, int]) -> int | None:
    """ "(C) negative, (D) weak and (E) strong staining of GPER-1": words after the last short item belong to the whole list."""
    caption = words.caption
    items = [caption[a.end : b.start] for a, b in pairwise(run)]
    sizes = [len(re.findall(r"\w[\w/-]*", re.sub(r"(?i)\b(?:and|or)\s*$", "", i))) for i in items]
    last = list(re.finditer(r"\S+", caption[span[0] : span[1]]))
    size = max(1, sorted(sizes)[len(sizes) // 2]) if sizes else 0
    if not sizes or max(sizes) > 3 or min(sizes) < 1 or len(last) < size + 3 or ":" in caption[span[0] : span[1]][:12]:
        return None
    if any(re.search(r"[.;]\s*$", i.rstrip()) for i in items):
        return None
    cut = span[0] + last[size].start()
    words.give(cut, span[1], [x for m in run for x in m.letters])
    return cut


def _deal_suffix(
    words: _Words, run: Sequence[Marker], letters: Sequence[str], cursor: int, limit: int, *, first: bool, final: bool
) -> int:
    """Markers after their text. Returns where the next run may begin."""
    caption = words.caption
    groups = _by_sentence(caption, run, cursor, limit)
    for n, (start, stop, markers) in enumerate(groups):
        begin = start
        if n == 0 and first:
            begin = _lead(words, start, markers[0].start, letters)
        _suffix_sentence(words, markers, begin, stop)
        cursor = stop
    if final:
        words.give(cursor, limit, letters)
        return limit
    return cursor


def _by_sentence(caption: str, run: Sequence[Marker], cursor: int, limit: int) -> list[tuple[int, int, list[Marker]]]:
    """Stretches of whole sentences, each ending with one that holds markers."""
    groups: list[tuple[int, int, list[Marker]]] = []
    start = cursor
    for _, stop in sentences(caption, cursor, limit):
        inside = [m for m in run if start <= m.start < stop]
        if inside:
            groups.append((start, stop, inside))
            start = stop
    return groups


def _lead(words: _Words, start: int, stop: int, letters: Sequence[str]) -> int:
    """Sentences before the one with the first marker belong to all; returns where that one begins."""
    spans = sentences(words.caption, start, stop)
    if len(spans) > 1:
        words.give(start, spans[-2][1], letters)
        return spans[-1][0]
    text = words.caption[start:stop]
    colon = text.find(": ")
    if 0 < colon < len(text) - 8:
        words.give(start, start + colon, letters)
        return start + colon + 1
    return start


def _suffix_sentence(words: _Words, markers: Sequence[Marker], begin: int, stop: int) -> None:
    """One sentence with one or more markers after their words; what follows the last marker belongs to all of them."""
    caption, cursor = words.caption, begin
    everyone = [x for m in markers for x in m.letters]
    for n, marker in enumerate(markers):
        if n == 0 and len(markers) > 1:
            between = re.sub(r"(?i)^[\s,;]*(?:and\b)?", "", caption[marker.end : markers[1].start])
            size = len(between.split())
            own = list(re.finditer(r"\S+", caption[cursor : marker.start]))
            if size <= 4 and len(own) > size + 1 and ";" not in caption[marker.end : markers[1].start]:
                cut = cursor + own[-max(1, size)].start()
                words.give(cursor, cut, everyone)
                cursor = cut
        text_start = cursor + len(re.match(r"(?i)[\s,;.]*(?:and\b)?", caption[cursor:])[0])  # type: ignore[index]
        words.give(text_start, marker.start, marker.letters)
        cursor = marker.end
    words.give(cursor, stop, everyone)


def _join(parts: Iterable[str]) -> str:
    texts = [_TRAIL.sub("", p).strip() for p in parts if p and p.strip()]
    out = ""
    for text in texts:
        if out and not out.endswith((".", ":", "?", "!")) and text[:1].isupper():
            out += "."
        out += (" " if out else "") + text
    return out
