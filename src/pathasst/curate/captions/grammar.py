"""The caption grammar: which markers define panels, and which words belong to which (paper, PathCap step 2, without an LLM).

Knows text alone. A caption is read in three passes: candidates of every printed style (`markers`); the chain A, B, C … that one
style makes, with gaps filled from others; then the words between them, dealt out by where the marker stands:

- before its text, "(A) Tumour. (B) Stroma.": from the marker to the next;
- after it, "Tumour (A). Stroma (B).": from the last marker up to this one;
- words before the first marker, and closing remarks (scale bars, stains, abbreviations), belong to every panel.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from pathasst.core.text import sentence_spans
from pathasst.curate.captions.markers import OTHER_STYLES, STYLES, Marker, find, label_at, rank
from pathasst.curate.captions.sentences import tells_scale

_REFERENCE = re.compile(
    r"(?i)(?:\b(?:in|from|as|of|to|than|see|with|for|by|at|between|panels?|figures?|fig\.?|figs\.?|parts?|per|is|on|into|using|that|"
    r"section)|[\[(/])\s*$"
)
_BOUNDARY = re.compile(r"(?:^|[.;:?!\])”\"])\s*$")
_BRACKET = re.compile(r"[^.?!;:]\)\s*$")
_SOFT = re.compile(r"(?i)(?:,|\b(?:and|or|whereas|while|then|but|with|by|as))\s*$")
_SHOWS = re.compile(
    r"(?i)\s+(?:shows?|showed|demonstrates?d?|reveals?|revealed|indicates?d?|confirms?|displays?|depicts?|illustrates?)\b"
)
_AFTER = re.compile(r"\s*(?:[.;]|$)")
_AFTER_SOFT = re.compile(r"(?i)\s*(?:[,:)]|(?:and|or|but|while|whereas)\b)")


@dataclass(frozen=True, slots=True)
class Chain:
    """The markers that define panels, in order of place, and how many panels they name."""

    markers: tuple[Marker, ...]
    letters: tuple[str, ...]  # A, B, C …
    style: str
    score: float


def stance(caption: str, marker: Marker) -> float:
    """Where the marker stands: positive = before its text, negative = after it, 0 = cannot be told. Magnitude = how clearly."""
    before, after = caption[: marker.start], caption[marker.end :]
    prefix = 2.0 if _BOUNDARY.search(before[-40:]) else 1.0 if _SOFT.search(before[-12:]) else 0.0
    if marker.style in ("colon", "comma", "dot", "dash", "bare"):
        return prefix + 0.5
    suffix = 2.0 if _AFTER.match(after) else 1.0 if _AFTER_SOFT.match(after) else 0.0
    if prefix < 2 and _SHOWS.match(after):
        suffix = max(suffix, 0.9)
    if marker.style == "rparen" and suffix < 2:
        suffix = 0.0
    if suffix and _BRACKET.search(before[-6:]):
        prefix = 0.5  # "grade 1 (hematoxylin and eosin) (b)." ends with a bracket, not a sentence
    if before[-1:].isalpha() and marker.style in ("paren", "rparen", "number"):
        prefix += 1.5  # glued to the title: "cancer(a)"
    return prefix - suffix


def best_chain(caption: str, hint: tuple[str, ...] = ()) -> Chain | None:
    """The best run of panel letters, or None when the caption names no panels.

    `hint`: letters read in the picture; a chain that names exactly these wins over an equal one.
    """
    chains = []
    candidates = {style: find(caption, style) for style in STYLES}
    candidates["mixed"] = _mixed(caption, candidates)
    for order, (style, markers) in enumerate(candidates.items()):
        for lower in (None, False, True):
            chain = _chain(caption, [m for m in markers if lower is None or m.lower is lower], style, hint)
            if chain:
                cost = 1.2 if style == "mixed" else 0.25 * order
                chains.append((chain.score - cost - 0.1 * (lower is None), chain))
    if not chains:
        others = (_chain(caption, find(caption, style), style, hint) for style in OTHER_STYLES)
        chains = [(chain.score, chain) for chain in others if chain]
    return _merged(caption, max(chains, key=lambda c: c[0])[1]) if chains else None


def _merged(caption: str, chain: Chain) -> Chain:
    """Neighbours with no word between them, "(a), (b) Axial …", become one marker of both."""
    markers = [chain.markers[0]]
    for m in chain.markers[1:]:
        last = markers[-1]
        if re.fullmatch(r"(?i)[\s,;/&]*(?:and\b)?[\s,;/&]*", caption[last.end : m.start]):
            letters = tuple(dict.fromkeys(last.letters + m.letters))
            markers[-1] = Marker(last.start, m.end, letters, last.style, last.lower)
        else:
            markers.append(m)
    return Chain(tuple(markers), chain.letters, chain.style, chain.score)


def _mixed(caption: str, candidates: dict[str, list[Marker]]) -> list[Marker]:
    """Markers of several styles in one caption ("A) … B) … C: …"): those that stand clearly, one for each place."""
    selected: list[Marker] = []
    for style in ("paren", "rparen", "colon", "dot", "comma", "panel", "bare"):
        for m in candidates[style]:
            sure = style in ("paren", "rparen") or abs(stance(caption, m)) >= 2.0
            if style == "dot":
                sure = sure and caption[m.end :].lstrip()[:1].isupper()
            if style == "bare":  # "A, mucosa; B adenoma"
                sure = not m.lower and caption[: m.start].rstrip().endswith(";")
            if style == "panel":
                sure = not caption[m.start :].lower().startswith("in ")
            if sure and not any(m.start < k.end and k.start < m.end for k in selected):
                selected.append(m)
    return sorted(selected, key=lambda m: m.start)


def _chain(caption: str, markers: list[Marker], style: str, hint: tuple[str, ...]) -> Chain | None:
    """The run A, B, C … that these candidates make: every letter up to the last must be there, first places in rising order."""
    first: dict[str, int] = {}
    for m in sorted(markers, key=lambda m: (_is_reference(caption, m), m.start)):
        for letter in m.letters:
            first.setdefault(letter, m.start)
    start = label_at(next(iter(first), "A"), 0)
    if start not in first:
        return None
    count = next(n for n in range(1, 99) if label_at(start, n) not in first)
    letters = tuple(label_at(start, n) for n in range(count))
    letters = _trim(caption, markers, letters, hint)
    if len(letters) < 2:
        return None
    definitions = _definitions(caption, markers, letters)
    letters_of_markers = {x for m in definitions for x in m.letters}
    if not set(letters) <= letters_of_markers:
        return None
    clear = sum(abs(stance(caption, m)) for m in definitions) / len(definitions)
    disorder = sum(rank(a.letters[0]) > rank(b.letters[0]) for a, b in pairwise(definitions))
    restarts = sum(m.letters[0] == start for m in definitions) - 1
    score = 1.6 * min(len(letters), 8) + clear - 0.8 * disorder - 1.5 * max(0, restarts)
    if (
        definitions
        and style in ("dot", "comma", "dash", "bare", "numbered", "number", "roman")
        and not _steady(caption, definitions, letters, style)
    ):
        return None
    return Chain(tuple(definitions), letters, style, score + 3.0 * (bool(hint) and set(letters) == set(hint)))


def _trim(caption: str, markers: list[Marker], letters: tuple[str, ...], hint: tuple[str, ...]) -> tuple[str, ...]:
    """Leave out last letters that only look like panels: "(C)" for a compound, printed in another place than A and B are."""
    while len(letters) > 2 and not (hint and letters[-1] in hint):
        last = [m for m in markers if letters[-1] in m.letters]
        rest = [m for m in markers if set(m.letters) & set(letters[:-1]) and letters[-1] not in m.letters]
        if not rest:
            break
        lean = sum(stance(caption, m) for m in rest)
        own = max((stance(caption, m) * (1 if lean >= 0 else -1) for m in last), default=0.0)
        late = max(m.start for m in last) > max(min(m.start for m in markers if x in m.letters) for x in letters[:-1])
        if any(abs(stance(caption, m)) >= 2.0 for m in last) and late:
            break
        if (own > -1.0 or any(len(m.letters) > 1 for m in last)) and (late or any(len(m.letters) > 1 for m in last)):
            break
        if any(_AFTER.match(caption[m.end :]) for m in last) and late:
            break
        letters = letters[:-1]
    return letters


def _steady(caption: str, definitions: list[Marker], letters: tuple[str, ...], style: str) -> bool:
    """Whether naked letters are panels: the first opens the caption or a sentence, most others follow a stop."""
    if style == "numbered":
        return len(letters) >= 2
    if style == "roman":  # (i), (ii) within a sentence are its own list
        return bool(re.search(r"(?:^|[.?!])\s*$", caption[: definitions[0].start]))
    if style == "number":  # numbers are everywhere: four at least, and in order
        opens = bool(_BOUNDARY.search(caption[: definitions[0].start][-40:]))
        return opens and len(letters) >= 4 and all(rank(a.letters[0]) <= rank(b.letters[0]) for a, b in pairwise(definitions))
    if style == "bare":
        at_boundary = [m for m in definitions if _BOUNDARY.search(caption[: m.start][-40:])]
        if not at_boundary or "A" not in at_boundary[0].letters or len(definitions) < 2:
            return False
        listed = sum(m in at_boundary or bool(_SOFT.search(caption[: m.start][-8:])) for m in definitions)
        return (
            listed == len(definitions)
            if any(m.lower for m in definitions)
            else len(letters) >= 4 or len(at_boundary) == len(definitions)
        )
    return sum(stance(caption, m) >= 1.5 for m in definitions) >= 0.6 * len(definitions)


def _is_reference(caption: str, marker: Marker) -> bool:
    return bool(_REFERENCE.search(caption[max(0, marker.start - 30) : marker.start]))


def _definitions(caption: str, markers: list[Marker], letters: tuple[str, ...]) -> list[Marker]:
    """The markers that carry text. A reference ("as in (A)") counts only for a letter that no other marker names."""
    panel_letters = set(letters)
    inside = [m for m in markers if set(m.letters) <= panel_letters]
    scales = [(a, b) for a, b in sentence_spans(caption) if tells_scale(caption[a:b])]
    defining = [m for m in inside if not any(a < m.start < b for a, b in scales)]
    inside = defining if panel_letters <= {x for m in defining for x in m.letters} else inside
    plain = [m for m in inside if not _is_reference(caption, m)]
    letters_of_markers = {x for m in plain for x in m.letters}
    extra = [m for m in inside if m not in plain and not set(m.letters) <= letters_of_markers]
    lean = sum(stance(caption, m) for m in plain)
    selected: list[Marker] = []
    for m in sorted(plain + extra, key=lambda m: m.start):
        earlier = {x for k in selected for x in k.letters}
        if set(m.letters) <= earlier and not _again(caption, m, lean):
            continue
        if _too_early(m, earlier, plain):
            continue
        selected.append(m)
    return selected[1:] if _covers(selected) else selected


def _covers(markers: Sequence[Marker]) -> bool:
    """Whether the first marker only says which panels there are: "(A–F) Tumours of mice (A, B), rats (C, D) and men (E, F)"."""
    rest = [x for m in markers[1:] for x in m.letters]
    return len(markers) > 2 and len(rest) == len(set(rest)) and set(rest) == set(markers[0].letters)


def _too_early(marker: Marker, earlier: set[str], markers: Sequence[Marker]) -> bool:
    """Whether a lone letter leaps over two or more that come later, and is named again: "infundibulum (i)" in C's words."""
    letter = marker.letters[0]
    highest = max(map(rank, earlier), default=0)
    if len(marker.letters) > 1 or rank(letter) <= highest + 2:
        return False
    later = [m for m in markers if m.start > marker.start]
    between = {label_at(letter, n) for n in range(highest + 1, rank(letter))}
    return any(letter in m.letters for m in later) and any(between & set(m.letters) for m in later)


def _again(caption: str, marker: Marker, lean: float) -> bool:
    """Whether a letter named a second time takes more text: only where the marker stands as clearly as a first one."""
    if marker.style == "number":  # "1–2 Salganea, male: 1 dorsal view 2 ventral view"
        return True
    own = stance(caption, marker)
    return own >= 2.0 if lean >= 0 else own <= -2.0
