"""Checks what the model wrote against what was retrieved and measured. Knows records; no brain, no tool, no network.

Every PMID in an answer must have been retrieved in this conversation; others are struck out and counted. The same holds for a
DOI or PMCID. Figures that stand in no tool result, no passage and no question are named (not struck: a model may compute).
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pathasst.core.records import Hit, ToolResult

_NAME = r"\b(?:PMIDs?|PubMed[\s-]*IDs?|PubMed(?=[\s:#]*\d{5}))"
_AFTER = r"[\s:#=：№.\-]*"
_JOIN = r"\s*(?:,|;|/|&|\||\band\b|\bor\b)+\s*(?:and\s+)?"
_REFERENCE = re.compile(
    rf"""
    {_NAME}{_AFTER}(?P<ids>\d{{1,9}}(?!\d)(?:{_JOIN}(?:{_NAME}{_AFTER}\d{{1,9}}|\d{{5,9}})(?!\d))*)(?P<close>\s{{0,3}}[\])])?
  | \[\s*(?P<bare>\d{{6,9}}(?:\s*[,;]\s*\d{{6,9}})*)\s*\]
  | (?:https?://)?(?:www\.)?(?:pubmed\.ncbi\.nlm\.nih\.gov|ncbi\.nlm\.nih\.gov/pubmed)/(?P<link>\d{{1,9}})/?
  | (?P<other>(?:\bdoi:\s*)?\b10\.\d{{4,9}}/[^\s\])>,;"']*[\w/]|\bPMC\d{{4,9}}\b)
    """,
    re.IGNORECASE | re.VERBOSE,
)
_AUTHOR = r"[A-Z][\w'-]{1,40}"
_AUTHOR_YEAR = re.compile(
    rf"\b{_AUTHOR}(?:\s{{1,3}}(?:et\s{{1,3}}al\.?|(?:and|&)\s{{1,3}}{_AUTHOR})),?\s{{0,3}}\(?(?:19|20)\d\d\)?"
)
_NUMBER = re.compile(r"(?<![\w.])[-−]?\d+(?:,\d{3})*(?:\.\d+)?(?![\w]|\.\d)")
_WORDS_TO_COMPARE, _CLEARLY_MORE = 5, 0.2
_TRIVIAL = 10  # small whole numbers are words more often than measurements ("two of 3 regions", list numbers)


@dataclass(frozen=True, slots=True)
class CheckedText:
    """An answer's text after the check."""

    text: str  # retrieved ones written as [PMID n], others as ~~[PMID n]~~
    cited: list[str] = field(default_factory=list)  # retrieved and cited, in order, each once
    struck: list[str] = field(default_factory=list)  # never retrieved, in order, each once
    unchecked: list[str] = field(default_factory=list)  # "Author et al., 2019": cannot be checked


def check(text: str, library: Mapping[str, Hit]) -> CheckedText:
    """Strike out every reference that `library` (PMID → retrieved abstract) does not hold.

    Numbers are read after PMID or PubMed, in lists, in pubmed links and as bare `[12345678]`; Arabic digits of any script count.
    """
    cited: dict[str, None] = {}
    struck: dict[str, None] = {}
    words = " ".join(f"{hit.title} {hit.passage}" for hit in library.values()).lower()

    def replace(match: re.Match[str]) -> str:
        if other := match["other"]:
            name = re.sub(r"^doi:\s*", "", other, flags=re.IGNORECASE)
            if name.lower() in words:
                return other
            struck[name] = None
            return f"~~{other}~~"
        marks = []
        for number in re.findall(r"\d+", match["ids"] or match["bare"] or match["link"]):
            pmid = str(int(number))
            is_retrieved = pmid in library
            (cited if is_retrieved else struck)[pmid if is_retrieved else f"PMID {pmid}"] = None
            marks.append(f"[PMID {pmid}]" if is_retrieved else f"~~[PMID {pmid}]~~")
        return " ".join(marks)

    text = text.replace("~~", "")
    parts: list[str] = []
    end = 0
    for match in _REFERENCE.finditer(text):
        start, opened = match.start(), ""
        if match["ids"]:  # the bracket and the blanks before it belong to it
            while start > end and text[start - 1].isspace():
                start -= 1
            if start > end and text[start - 1] in "[(":
                start, opened = start - 1, text[start - 1]
        closed = match["close"] or ""
        lead = " " if text[start].isspace() else ""
        before, after = ("", "") if opened and closed else (opened, closed)
        parts += [text[end:start], lead, before, replace(match), after]
        end = match.end()
    text = "".join([*parts, text[end:]])
    return CheckedText(text, list(cited), list(struck), list(dict.fromkeys(_AUTHOR_YEAR.findall(text))))


def misplaced(text: str, library: Mapping[str, Hit]) -> list[tuple[str, str]]:
    """(cited PMID, nearer PMID) where the words of a citation stand clearly more in another retrieved abstract.

    Its words are those before it, or those after it where it begins its line, as in a list. They are compared by their first six
    letters. A hint: it finds a PMID put beside another abstract's statement, and no false claim.
    """
    claims: dict[tuple[str, str], None] = {}
    stems = {pmid: _stems(f"{hit.title} {hit.passage}") for pmid, hit in library.items()}
    for statement, marks in (pair for line in text.splitlines() for pair in _cited_words(line)):
        words = _stems(statement)
        pmids = [p for p in re.findall(r"\d+", marks) if p in library]
        if len(words) < _WORDS_TO_COMPARE or not pmids:
            continue
        share = {pmid: len(words & stem) / len(words) for pmid, stem in stems.items()}
        nearest = max(share, key=lambda pmid: share[pmid])
        own = max(share[p] for p in pmids)
        if share[nearest] - own >= _CLEARLY_MORE:
            claims[(pmids[0], nearest)] = None
    return list(claims)


def _cited_words(line: str) -> Iterable[tuple[str, str]]:
    """(words, the references they belong to) of one line."""
    parts = re.split(r"((?:\s{0,3}\[PMID \d{1,9}\])+)", line)
    first = 0 if any(c.isalpha() for c in parts[0]) else 2
    return zip(parts[first::2], parts[1::2], strict=False)


def _stems(text: str) -> set[str]:
    """The first six letters of long words, and of names that go on after a digit (Ki67positive)."""
    stems = set()
    for word in re.findall(r"\w+", text.lower()):
        if re.search(r"\d\D", word):
            stems.add(word[:6])
        else:
            stems.update(letters[:6] for letters in re.findall(r"[^\W\d_]{4,}", word))
    return stems


def retrieved(results: Iterable[ToolResult]) -> dict[str, Hit]:
    """PMID → abstract over results; a later passage of the same abstract replaces the earlier one."""
    return {str(int(hit.pmid)) if hit.pmid.isdigit() else hit.pmid: hit for result in results for hit in result.hits}


def unbacked_figures(text: str, evidence: Iterable[str], numbers: Iterable[float] = ()) -> list[str]:
    """Figures in `text` that neither `evidence` (tool text, passages, question) nor `numbers` hold, also not rounded.

    PMIDs, years and whole numbers up to ten are left out. A hint for the person, not a proof: a right sum would be named too.
    """
    source_numbers = sorted(
        {*(float(n.replace(",", "").replace("−", "-")) for e in evidence for n in _NUMBER.findall(e)), *map(float, numbers)}
    )
    stripped = re.sub(r"~{0,2}\[PMID \d{1,9}\]~{0,2}", "", text)
    strange = []
    for figure in dict.fromkeys(_NUMBER.findall(stripped)):
        value = float(figure.replace(",", "").replace("−", "-"))
        is_integer = "." not in figure
        if is_integer and (abs(value) <= _TRIVIAL or 1900 <= value <= 2100):
            continue
        decimals = len(figure.partition(".")[2])
        tolerance = 0.5 * 10**-decimals + 1e-9
        forms = (value, value * 100, value / 100)  # shares are written 0.231 or 23.1 %
        if not any(_near(form, tolerance * form / value if value else 0.0, source_numbers) for form in forms):
            strange.append(figure)
    return strange


def _near(value: float, tolerance: float, source_numbers: list[float]) -> bool:
    """Whether one of the sorted `source_numbers` differs from `value` by at most `tolerance`."""
    at = bisect_left(source_numbers, value - tolerance)
    return at < len(source_numbers) and source_numbers[at] <= value + tolerance
