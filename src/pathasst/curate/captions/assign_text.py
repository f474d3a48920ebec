"""Dealing the words of a caption out to its panels, sentence by sentence. Knows the caption and the chain of its markers.

A sentence with markers has them all before or all after their words. Words before its first marker are its lead, words after
its last one its tail; where they belong is the question that each function here answers for one case.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from pathasst.core.text import sentence_spans
from pathasst.curate.captions.grammar import Chain, stance
from pathasst.curate.captions.markers import Marker, references
from pathasst.curate.captions.sentences import closing_kind, tells_scale

_TRAIL = re.compile(r"(?i)[\s,;(\[]*(?:\b(?:and|or|whereas|while|but)\b)?[\s,;(\[]*$")
_OPEN = re.compile(r"(?i)(?:[:,]|\b(?:of|in|by|with|for|from|on|at|to|the|an?|as|using|shows?|showing|are|is|were|was|and))\s*$")
_PREPOSITION = re.compile(r"(?i)(?:of|in|by|with|for|from|on|at|to|as|using)\b")
_PREDICATE = re.compile(
    r"(?i)\s*,?\s*(?:which\s+)?(?:clearly\s+|also\s+)?(?:shows?|showed|showing|demonstrates?|demonstrated|demonstrating|"
    r"reveals?|revealed|revealing|indicates?|indicated|confirms?|confirmed|depicts?|displays?|exhibits?|illustrates?|"
    r"highlights?|identif(?:y|ies|ied)|presents?|contains?|express(?:es|ed)?|is|are|was|were|has|have|had|with)\b"
)
_FINITE = re.compile(
    r"(?i)(?<!\bis )(?<!\bare )(?<!\bas )(?<!\bwas )(?<!\bwere )(?<!\bbeen )"
    r"\b(?:show|demonstrat|reveal|confirm|indicat|depict|display|illustrat)(?:e?s?|e?d|ing)\s(?!\s*(?:that|in|on|by)\b)"
)
_PLURAL = re.compile(
    r"(?i)(?<!arrows )(?<!heads )(?<!bars )(?<!lines )(?<!asterisks )(?<!which )(?<!that )"
    r"\b(?:show|demonstrate|reveal|confirm|depict|display|illustrate)\s(?!\s*(?:that|in|on|by)\b)"
)
"""A verb whose subject are all items of a list."""
_SHOWN_BY = re.compile(
    r"(?i)\s*(?:images?|views?|scans?|sections?|radiographs?|(?:photo)?micrographs?|photographs?|sequences?|stain(?:s|ings?))\s+"
    r"(?:clearly\s+|also\s+)?(?:show|demonstrate|reveal|indicate|confirm|depict|display|illustrate)(?:s|d|ed)?\b"
)
"""What the list before it shows: "FLAIR (A) and T2-weighted (B) images demonstrate …"."""
_CLAUSE = re.compile(r"(?i)[;,]\s*(?:and|while|whereas|but)\s|;\s|,?\s(?:while|whereas)\s|,\s(?=(?:the|an?)\s)")


_NESTED = re.compile(r"\(\s*(?:in|from|see|of)?\s*$")
_VERB = re.compile(r"(?i)[\s,;]*(?:and\b|or\b|but\b)?\s*(?:\w+ed|made|was|were|had|did|is|are|has|have|then)\b")
_RELATIVE = re.compile(r"(?i),?\s(?=which\b)|[;,]\s*(?=(?:and|while|whereas|but)\s)|;\s")
MOST_WORDS = 12  # of a list's first item without a lead before it
_STOPPED = re.compile(r"[.?!;)\]][)\]\"”]?\s*$")
_ARTICLE = re.compile(r"(?i)(?:the|an?)\s")
_HEADING = re.compile(r"[.?!]\s+[A-Z][\w-]*(?:\s[\w-]+){0,5}[;:]\s*$")
"""A few words that open a list: "Positive stains;"."""
_FULL_STOP = re.compile(r"[.?!][)\]\"”]?\s*$")


@dataclass(slots=True)
class OwnedWords:
    """Spans of the source by owner, gathered in order."""

    caption: str
    spans: list[tuple[int, int, frozenset[str]]] = field(default_factory=list)

    def give(self, start: int, end: int, letters: Sequence[str]) -> None:
        while start < end and self.caption[start] in " ,;:.)]\n\t–-":
            start += 1
        while end > start and self.caption[end - 1] in " ,;([\n\t":
            end -= 1
        if end > start:
            self.spans.append((start, end, frozenset(letters)))

    def of(self, letter: str) -> str:
        return join(self.caption[a:b] for a, b, who in sorted(self.spans, key=lambda s: s[:2]) if letter in who)

    def common(self, letters: Sequence[str], *, shared: bool, letter: str) -> str:
        full = frozenset(letters)
        mine = [(a, b) for a, b, who in sorted(self.spans, key=lambda s: s[:2]) if letter in who and (who == full) == shared]
        return join(self.caption[a:b] for a, b in mine)


@dataclass(slots=True)
class SentenceGroup:
    """A sentence with markers, and the sentences without any up to the next one."""

    start: int
    stop: int
    markers: list[Marker]
    before: bool  # the markers stand before their words
    after: list[tuple[int, int]] = field(default_factory=list)  # the sentences that follow

    @property
    def letters(self) -> list[str]:
        return [x for m in self.markers for x in m.letters]


def assign_text(caption: str, chain: Chain) -> OwnedWords:
    """Every stretch of the caption with the letters that it belongs to."""
    words = OwnedWords(caption)
    opening, groups = _groups(caption, chain)
    for a, b in opening:
        words.give(a, b, chain.letters)
    for n, group in enumerate(groups):
        following = groups[n + 1] if n + 1 < len(groups) else None
        lead = _owners_of_lead(caption, chain, groups, n)
        (_deal_before if group.before else _deal_after)(words, group, lead)
        if following is None:
            _deal_rest(words, group, chain.letters, groups)
        else:
            owners = group if group.before or following.before else following
            for a, b in group.after:
                _give(words, a, b, owners.letters, owners.markers[0].lower)
    return words


def _groups(caption: str, chain: Chain) -> tuple[list[tuple[int, int]], list[SentenceGroup]]:
    """The sentences before the first marker, and the groups."""
    lean = sum(stance(caption, m) for m in chain.markers)
    fronted = _fronted(caption, chain.markers)
    opening: list[tuple[int, int]] = []
    groups: list[SentenceGroup] = []
    for a, b in _whole_sentences(caption, chain.markers, fronted, lean):
        inside = [m for m in chain.markers if a <= m.start < b]
        if inside:
            groups.append(SentenceGroup(a, b, inside, _stands_before(caption, a, inside, fronted, lean)))
        elif groups:
            groups[-1].after.append((a, b))
        else:
            opening.append((a, b))
    return opening, groups


def _fronted(caption: str, markers: Sequence[Marker]) -> list[Marker]:
    """The markers that open the caption or follow a stop; the one of "A title (A). Tumour. (B). Stroma." counts as such."""
    fronted = [m for m in markers if _STOPPED.search(caption[: m.start][-6:]) or not m.start or _is_glued(caption, m)]
    if len(markers) > 1 and markers[0] not in fronted and _FULL_STOP.search(caption[: markers[1].start][-6:]):
        stops = [caption[m.end :].lstrip()[:1] == "." for m in markers[:2]]
        fronted += [markers[0]] if all(stops) else []
    return fronted


def _is_glued(caption: str, marker: Marker) -> bool:
    """Whether a number stands right after a word, "1. Incision2. Resection": the stop between them was lost."""
    return marker.style == "number" and caption[marker.start - 1 : marker.start].isalpha()


def _whole_sentences(caption: str, markers: Sequence[Marker], fronted: Sequence[Marker], lean: float) -> list[tuple[int, int]]:
    """Sentences, where the stop of "(A). Tumour" ends none, no marker is cut, and one that follows a stop begins a new one."""
    spans: list[tuple[int, int]] = []
    opens = [m.start for n, m in enumerate(markers) if lean > 0 and _opens(caption, markers, n)]
    for a, b in (part for span in sentence_spans(caption) for part in _cut_at(span, opens)):
        if spans:
            start, stop = spans[-1]
            dangling = any(
                start <= m.start < stop and not re.search(r"\w", caption[m.end : stop]) for m in markers if m in fronted
            )
            if dangling or any(m.start < a < m.end for m in markers):
                spans[-1] = (start, b)
                continue
        spans.append((a, b))
    return spans


def _opens(caption: str, markers: Sequence[Marker], n: int) -> bool:
    """Whether a marker begins a sentence: it follows a stop, but not the "stains;" of ". Positive stains; (B) CD3, (C) CD20"."""
    before = caption[markers[n - 1].end if n else 0 : markers[n].start]
    listed = n + 1 < len(markers) and not re.search(r"[.?!]\s", caption[markers[n].end : markers[n + 1].start])
    return bool(_STOPPED.search(caption[: markers[n].start][-6:])) and not (listed and _HEADING.search(before))


def _cut_at(span: tuple[int, int], places: Sequence[int]) -> list[tuple[int, int]]:
    edges = [span[0], *(p for p in places if span[0] < p < span[1]), span[1]]
    return list(pairwise(edges))


def _stands_before(caption: str, start: int, markers: Sequence[Marker], fronted: Sequence[Marker], lean: float) -> bool:
    opens = not re.search(r"\w", caption[start : markers[0].start])
    if opens or (markers[0] in fronted and not _STOPPED.search(caption[: markers[0].start][-6:])):
        return True
    own = sum(stance(caption, m) for m in markers)
    if lean >= 0:
        return own > (-2.0 if len(markers) == 1 else -0.5)
    return own >= (1.5 if len(markers) == 1 else 1.0)


def _owners_of_lead(caption: str, chain: Chain, groups: Sequence[SentenceGroup], n: int) -> Sequence[str]:
    """Whose the words before a sentence's first marker are: of all panels, of its own, or of those of the list that they open."""
    group, following = groups[n], groups[n + 1] if n + 1 < len(groups) else None
    lead = caption[group.start : group.markers[0].start]
    if n == 0 and not _leads_only(caption, group, following):
        return chain.letters
    if n and group.before and closing_kind(lead) is not None:  # "(a) Tumour. Bar = 9 µm (b) Stroma": no stop before (b)
        return groups[n - 1].letters
    letters = list(group.letters)
    if group.before and lead.rstrip().endswith(":"):  # "After treatment: E, left; F, right. G, …"
        for here, after in pairwise(groups[n:]):
            if here.after or not caption[: after.start].rstrip().endswith(";"):
                break
            letters += after.letters
    return letters


def _leads_only(caption: str, group: SentenceGroup, following: SentenceGroup | None) -> bool:
    """Whether the words before the first marker run into this sentence's list and say nothing of later panels."""
    lead = caption[group.start : group.markers[0].start]
    return following is not None and (not group.before or (len(group.markers) > 1 and bool(_OPEN.search(lead))))


def _deal_before(words: OwnedWords, group: SentenceGroup, lead: Sequence[str]) -> None:
    """ "Lead (A) words, (B) words tail": lead to `lead`, tail to all of the sentence."""
    words.give(group.start, group.markers[0].start, lead)
    for a, b in pairwise(group.markers):
        _give(words, a.end, b.start, a.letters, a.lower)
    last = group.markers[-1]
    stop = _list_tail(words, group) if len(group.markers) > 1 else None
    _give(words, last.end, stop or group.stop, last.letters, last.lower)
    if stop:
        words.give(stop, group.stop, group.letters)


def _give(words: OwnedWords, start: int, stop: int, letters: Sequence[str], lower: bool) -> None:
    """Words of several panels, of which a list inside may name each: "(b–d) Staining for CD3 (b), CD20 (c) and CD68 (d)"."""
    caption = words.caption
    inner = [m for m in references(caption, start, stop) if caption[m.start] == "(" and m.lower is lower]
    references_here = [x for m in inner for x in m.letters]
    is_whole = sorted(references_here) == sorted(letters) and not any(_NESTED.search(caption[: m.start][-8:]) for m in inner)
    if len(inner) > 1 and is_whole and _is_list(caption, inner, start):
        deal_list(words, inner, _give_heading(words, start, inner[0].start, letters), stop)
    else:
        words.give(start, stop, letters)


def _is_list(caption: str, markers: Sequence[Marker], begin: int) -> bool:
    """Whether words with markers after them are a list: with a common beginning, parted by ";", or short; no sentence in two."""
    first = caption[begin : markers[0].start]
    semicolons = all(";" in caption[a.end : b.start] for a, b in pairwise(markers))
    return semicolons or _lead_of_list(caption, markers, begin) > begin or len(first.split()) <= MOST_WORDS


def _list_tail(words: OwnedWords, group: SentenceGroup) -> int | None:
    """ "(C) negative, (D) weak and (E) strong staining of GPER-1": where the words of the whole list begin."""
    caption, start, stop = words.caption, group.markers[-1].end, group.stop
    items = [re.sub(r"(?i)\b(?:and|or)\s*$", "", caption[a.end : b.start]) for a, b in pairwise(group.markers)]
    sizes = sorted(len(re.findall(r"\w[\w/-]*", i)) for i in items)
    verb = _PLURAL.search(caption, start, stop)
    if verb and not any(_FINITE.search(i) for i in items):
        return verb.start()  # "(A) T1- and (B) T2-weighted images show a mass"
    last = list(re.finditer(r"\S+", caption[start:stop]))
    size = max(1, sizes[len(sizes) // 2])
    runs_in = bool(_OPEN.search(caption[group.start : group.markers[0].start]))
    if sizes[-1] > 3 or sizes[0] < 1 or len(last) < size + (1 if runs_in and size == 1 else 3) or ":" in caption[start:stop][:12]:
        return None
    if any(re.search(r"[.;]\s*$", i.rstrip()) for i in items):
        return None
    if _ARTICLE.match(caption[start:stop].lstrip()) and not _ARTICLE.match(items[0].lstrip()):
        return None  # "(A) BALF and (B) the weight of the lung" are no list of like items
    return start + last[size].start()


def _deal_after(words: OwnedWords, group: SentenceGroup, lead: Sequence[str]) -> None:
    """ "Words (A), words (B) tail": tail to all of the sentence, a lead with a colon to `lead`."""
    start = _give_heading(words, group.start, group.markers[0].start, lead)
    deal_list(words, group.markers, start, group.stop)


def _give_heading(words: OwnedWords, start: int, stop: int, letters: Sequence[str]) -> int:
    """Give the words up to a colon to `letters`; where those after it begin."""
    colon = words.caption[start:stop].find(": ")
    if not 0 < colon < stop - start - 8:
        return start
    words.give(start, start + colon + 1, letters)
    return start + colon + 1


def deal_list(words: OwnedWords, markers: Sequence[Marker], begin: int, stop: int) -> None:
    """One sentence with markers after their words; what follows the last marker belongs to all of them."""
    caption, cursor = words.caption, begin
    everyone = [x for m in markers for x in m.letters]
    start = _lead_of_list(caption, markers, cursor)
    words.give(cursor, start, everyone)
    cursor = start
    clause_ended = False
    for n, marker in enumerate(markers):
        cursor += len(re.match(r"(?i)[\s,;.]*(?:and\b)?", caption[cursor:])[0])  # type: ignore[index]
        words.give(cursor, marker.start, marker.letters)
        cursor = marker.end
        end = markers[n + 1].start if n + 1 < len(markers) else stop
        if 0 < n < len(markers) - 1 and _SHOWN_BY.match(caption, marker.end, end):
            cut = _RELATIVE.search(caption, marker.end, end)
            cursor = cut.start() if cut else end
            words.give(marker.end, cursor, [x for m in markers[: n + 1] for x in m.letters])
        elif len(markers) > 1 and _PREDICATE.match(caption, marker.end, end):
            clause = _CLAUSE.search(caption, marker.end, end)
            last = n + 1 == len(markers)
            if clause_ended if last else clause:
                clause_ended, cursor = True, end if last or clause is None else clause.start()
                words.give(marker.end, cursor, marker.letters)
    words.give(cursor, stop, everyone)


def _lead_of_list(caption: str, markers: Sequence[Marker], begin: int) -> int:
    """Where the first item begins: the words before it are shared, "Staining for CD3 (A), CD20 (B)"."""
    if len(markers) < 2 or ";" in caption[markers[0].end : markers[1].start]:
        return begin
    text = caption[begin : markers[0].start]
    mark = re.search(r"[:=]\s" if tells_scale(text) else r":\s", text)
    if mark and mark.end() < len(text) - 1:
        return begin + mark.end()
    items = [re.sub(r"(?i)^[\s,;]*(?:and\b)?\s*", "", caption[a.end : b.start]) for a, b in pairwise(markers)]
    own = _words_like(text, items[0])
    if own is None and (verb := _FINITE.search(text)) and not any(_FINITE.search(i) or _VERB.match(i) for i in items):
        own = verb.end()  # "Staining showed nuclei of the tumour (A) and no nuclei of the stroma (B)"
    return begin + (own or 0)


def _words_like(text: str, second: str) -> int | None:
    """Where in the text before the first marker the first item begins, if it is like the second: as many words, or an article."""
    size, own = len(second.split()), list(re.finditer(r"\S+", text))
    if size > 4:
        return None
    if own and (short := re.fullmatch(r"\(([A-Z]{2,6})s?\)", own[-1][0])):  # "of lactate dehydrogenase (LDH) (A)": all its words
        size = max(size, len(short[1]) + 1)
    alike = [w for w in own[-size - 2 :] if w[0].lower() == second.split()[:1][0].lower()] if _ARTICLE.match(second) else []
    if alike:
        return alike[-1].start()  # "between the neck (A) and the bronchus (B)"
    if len(own) <= size + 1:
        return None
    first = own[-max(1, size) :]
    if first[0][0] in ("and", "or"):
        return None
    if len(first) > 1 and _PREPOSITION.match(first[0][0]) and not _PREPOSITION.match(second):
        first = first[1:]  # "of curcumin (A)" is no item, "curcumin" is
    start = first[0].start()
    return start if size < 3 or _OPEN.search(text[:start]) else None


def _deal_rest(words: OwnedWords, group: SentenceGroup, letters: Sequence[str], groups: Sequence[SentenceGroup]) -> None:
    """The sentences after the last marker: closing remarks to every panel, others to the panel they follow."""
    caption = words.caption
    listed = sum(len(g.markers) for g in groups) > 1
    is_whole = not group.before or (
        listed
        and not any(_FULL_STOP.search(caption[: m.start][-6:]) for g in groups for m in g.markers if m != groups[0].markers[0])
    )
    earlier_kinds = {closing_kind(caption[a:b]) for g in groups[:-1] if g.before for a, b in g.after}
    cut = 0 if is_whole else len(group.after)
    while cut and (kind := closing_kind(caption[slice(*group.after[cut - 1])])) is not None and kind not in earlier_kinds:
        cut -= 1
    for a, b in group.after[:cut]:
        _give(words, a, b, group.letters, group.markers[0].lower)
    for a, b in group.after[cut:]:
        _deal_closing(words, a, b, letters)


def _deal_closing(words: OwnedWords, a: int, b: int, letters: Sequence[str]) -> None:
    """A closing remark: to the panels that it names, "Bars: 5 µm (A), 9 µm (B)", "In C, …"; to all where it names none."""
    caption = words.caption
    references_here = [m for m in references(caption, a, b) if set(m.letters) <= set(letters)]
    if references_here and not re.search(r"\w", caption[a : references_here[0].start]):
        words.give(references_here[0].end, b, references_here[0].letters)
    elif references_here and tells_scale(caption[a:b]):
        deal_list(words, references_here, a, b)
    else:
        words.give(a, b, letters)


def join(parts: Iterable[str]) -> str:
    """Pieces of a caption as one text; a stop between two that are sentences."""
    texts = [_TRAIL.sub("", p).strip() for p in parts if p and p.strip()]
    out = ""
    for text in texts:
        if out and not out.endswith((".", ":", "?", "!")) and text[:1].isupper() and not _OPEN.search(out):
            out += "."
        out += (" " if out else "") + text
    return re.sub(r"\s{2,}", " ", out.rstrip(" :"))
