"""Holds each sentence of a model's answer to its sources: numbers with their units, entities, polarity. Knows text alone.

Sources are tools' results, passages of retrieved abstracts, glossary entries and the person's own words. The rules are
conservative: a sentence is supported only by a sentence (or line) of a source that holds all of its numbers and names, most of
its content words, and says yes where it says yes. A right sentence in wholly other words is taken for unsupported.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from itertools import pairwise

from pathasst.assistant.compose.wishes import word_list
from pathasst.assistant.statements import Kind
from pathasst.core.text import sentence_spans
from pathasst.papers.synonyms import groups_in

LEAST_WORDS = 0.7
"""Share of a sentence's content words that its source must hold."""
LEAST_LINKED = 0.5
"""The same for a sentence with numbers, which all stand in one sentence of the source."""
LEAST_CLAUSE = 4
"""Words of a clause that is judged alone; a shorter one leans on the rest of its sentence."""
LONGEST = 2000
"""Characters of a sentence; what goes on for longer is cut, so that a text without an end costs no more than another."""


class Support(StrEnum):
    """What the sources say to a sentence."""

    SUPPORTED = "supported"
    NEUTRAL = "neutral"  # states no fact: a greeting, a question, an offer, that something cannot be told
    CONTRADICTED = "contradicted"  # a source speaks of the same with another number, class or polarity
    UNSUPPORTED = "unsupported"  # no source speaks of it


@dataclass(frozen=True, slots=True)
class Evidence:
    """One source. `name`: the tool's, or the PMID; `text`: its words; `question`: whether the person wrote it."""

    name: str
    text: str
    kind: Kind = Kind.TOOL
    question: bool = False


@dataclass(frozen=True, slots=True)
class CheckedSentence:
    """A sentence with the verdict on it and the source that supports it."""

    text: str
    support: Support
    source: Evidence | None = None
    passage: str = ""


_NUMBER = re.compile(
    r"(?<![\w.])([<>≤≥]?)\s*(\d+(?:,\d{3})*(?:\.\d+)?)\s*(%|per ?cent|percent|cells/(?:mm|µm)²|µm²|µm|mm²|mm|cm|px|years?|"
    r"months?|days?|weeks?|mg|/µL)?(?![\w.]*\d)",
    re.IGNORECASE,
)
_VALUED = re.compile(r"\b(index|score|tps|cps|probability)\b[^\d;]{0,14}?(\d+(?:\.\d+)?\+?)", re.IGNORECASE)
_UNITS = {"percent": "%", "per cent": "%", "year": "years", "month": "months", "day": "days", "week": "weeks"}
_SCORE = re.compile(r"(?<![\w.])[0-3]\+(?!\w)")
_NAME = re.compile(
    r"\b(?:[A-Z]{2,}[A-Za-z0-9]*(?:-[A-Za-z0-9]+)*|[A-Za-z]+-?\d+[A-Za-z]*|[a-z]+(?:mab|nib|tinib|platin|taxel|ciclib))\b"
)
_NEGATION = re.compile(
    r"\b(?:not?|none|never|without|neither|nor|cannot|can't|isn't|wasn't|aren't|doesn't|didn't|don't|lack(?:s|ed|ing)?|absen(?:t|ce)|"
    r"fail(?:s|ed)?|excludes?|excluded|rather than|un(?:likely|\w+ed)|in?significant|non-significant)\b",
    re.IGNORECASE,
)
_OPPOSITES = (
    ("positive", "negative"), ("malignant", "benign"), ("high", "low"), ("higher", "lower"), ("increase", "decrease"),
    ("increased", "decreased"), ("increased", "reduced"), ("increase", "reduce"),
    ("improved", "worsened"), ("better", "worse"), ("longer", "shorter"), ("above", "below"),
    ("more", "fewer"), ("more", "less"), ("abnormal", "normal"), ("present", "absent"), ("good", "poor"), ("left", "right"),
    ("benefit", "harm"), ("effective", "ineffective"), ("complete", "incomplete"), ("high-grade", "low-grade"),
)  # fmt: skip
_CLASSES = (
    ("nilm", "asc-us", "lsil", "asc-h", "hsil", "scc"),
    ("red", "white", "platelet"),
    ("neutrophil", "lymphocyte", "monocyte", "eosinophil", "basophil", "erythroblast", "platelet"),
    ("colon", "lung", "breast", "stomach", "cervix", "prostate", "liver", "kidney", "ovary", "thyroid", "pancreas", "bladder"),
    ("adenocarcinoma", "squamous", "melanoma", "lymphoma", "sarcoma", "adenoma"),
    ("her2", "ki67", "pd-l1", "egfr", "p53", "p16"),
    ("1+", "2+", "3+"),
)
_SAME = (  # what people write for what tools and abstracts say: (as written, as the sources have it)
    (r"\btumou?r proportion score(?: \(TPS\))?", "TPS"),
    (r"\bcombined positive score(?: \(CPS\))?", "CPS"),
    (r"\b(?:proliferation|labell?ing) (?:index|fraction)\b", "Ki67 index"),
    (r"\b(?:do|does|did) not (?:stain|express|label)(?: (?:positive |)for)?\b", "negative"),
    (r"\b(?:stain|stained|stains|express|expressed|expresses|labelled)(?: for)?(?= (?:Ki67|HER2|PD-L1)\b)", "positive"),
    (r"\bstain(?:s|ed)?(?= [0-3]\+)", "are"),
    (r"\b(?:lowered|decreased|diminished)\b", "reduced"),
    (r"\b(?:lengthened|extended|prolongs)\b", "prolonged"),
    (r"\b(?:severe|serious) adverse events \(grade (\d) or (?:above|more|higher)\)", r"grade \1 or higher adverse events"),
)
_COUNTED = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_SHARE = re.compile(
    r"\b(?:(?P<more>more than|over|at least)|(?P<less>less than|fewer than|under)|"
    r"about|around|roughly|nearly|almost|approximately|some)?"
    r"\s*\b(?P<share>two[- ]thirds|three[- ]quarters|(?:a|one)[- ](?:third|quarter|half|fifth|tenth)|half)(?:\s+(?:of|the))?\b",
    re.IGNORECASE,
)
_SHARES = {"two thirds": 66.7, "three quarters": 75.0, "third": 33.3, "quarter": 25.0, "half": 50.0, "fifth": 20.0, "tenth": 10.0}
SHARE = "§"  # stands for a share in words
NEAR_SHARE = 5.0
"""Percentage points by which a share in words may differ from the source's."""
_CONTRAST = re.compile(r",?\s+(?:but|while|whereas|although)\s+", re.IGNORECASE)
_CLAUSE = re.compile(r";\s+|,?\s+(?:but|while|whereas|although)\s+|,\s+and\s+|,\s+(?=which\b)", re.IGNORECASE)
_CLAUSES = re.compile(r";|,(?=\s*[\w+-]+:)")
_PARTS = re.compile(r";|,|\band\b|\bversus\b|\bvs\b|\bbut\b|\bwhile\b|\bwhereas\b", re.IGNORECASE)
_LIST_MARK = re.compile(r"[-*•]|\d{1,2}[.)]")
_NEUTRAL = re.compile(
    r"^(?:hello|hi|thanks?|thank you|sure|okay|certainly|of course|here (?:is|are)|let me|i (?:can|could|will|would|ran|used|"
    r"have|am|do)\b|i'(?:ll|m|ve)\b|please|note that i|as an (?:ai|assistant)|in summary:?$|sources?:|references?:|the (?:tool|"
    r"search|literature search) (?:was|did|gave|returned|found no)\b.{0,40}$|would you|do you|if you)|"
    r"\bcannot (?:tell|say|determine|answer|be (?:determined|told|said))|\bresearch use only\b|"
    r"\bconsult\b|\bplease (?:attach|provide|note)\b|"
    r"\bno (?:abstract|source|result|tool)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Sources:
    """What a text is held to. Read once, and only when there is a sentence to judge: most replies of a loop are calls alone."""

    evidence: Sequence[Evidence]

    @cached_property
    def lines(self) -> list[tuple[Evidence, str, _Facts]]:
        """Each sentence of a source, and what it states."""
        return [(e, line, facts) for e in self.evidence for line in _lines(e.text) for facts in _stated(line)]


def check(text: str, sources: Sources) -> list[CheckedSentence]:
    """Every sentence of a text with the verdict of the sources on it, in order; list marks and headings stay with their words."""
    return [_judge(s, sources) for s in _lines(text)]


def open_sentence(text: str) -> int:
    """Where the last sentence of an unfinished text begins: more words may change it. After a line's end: the text's end."""
    start = text.rfind("\n") + 1
    spans = _spans(text[start:])
    return start + spans[-1][0] if len(spans) > 1 else start


@dataclass(frozen=True, slots=True)
class _Facts:
    numbers: frozenset[tuple[str, str]]  # (value, unit); no unit: ""
    names: frozenset[str]
    words: frozenset[str]
    lower: str
    negative: bool
    shares: tuple[tuple[float, float], ...]  # least and most per cent of each share in words: half, about a third


def _lines(text: str) -> list[str]:
    return [s for line in text.splitlines() for a, b in _spans(line) if re.search(r"\w", s := line[a:b].strip())]


def _spans(line: str) -> list[tuple[int, int]]:
    """The sentences of a line; the mark of a list (`1.`) is part of what it stands before."""
    spans: list[tuple[int, int]] = []
    for start, end in sentence_spans(line):
        if spans and _LIST_MARK.fullmatch(line[slice(*spans[-1])].strip()):
            start = spans.pop()[0]
        cuts = [*range(start, end, LONGEST), end]
        spans += pairwise(cuts)
    return spans


def _facts(sentence: str) -> _Facts:
    plain = re.sub(r"~{0,2}\[?PMID:? ?\d{1,9}\]?~{0,2}|^\s*(?:[-*•]|\d{1,2}[.)])\s+|[*_`#]", " ", sentence)
    plain = plain.replace("−", "-").replace("HER-2", "HER2").replace("Ki-67", "Ki67").replace("PDL1", "PD-L1")
    plain = plain.replace(SHARE, " ")
    for written, same in _SAME:
        plain = re.sub(written, same, plain, flags=re.IGNORECASE)
    shares = tuple(_share(m) for m in _SHARE.finditer(plain))
    plain = _SHARE.sub(f" {SHARE} ", plain)
    for number, word in enumerate(_COUNTED, 2):
        plain = re.sub(rf"\b{word}\b", str(number), plain, flags=re.IGNORECASE)
    groups = groups_in(plain)
    numbers = {(f"{float(m[2].replace(',', '')):g}", _unit(m)) for m in _NUMBER.finditer(plain)}
    numbers |= {(m, "score") for m in _SCORE.findall(plain)}
    names = {g.name.casefold() for g, _ in groups} | {n.casefold() for n in _NAME.findall(plain)}
    words = {w[:6] for w in re.findall(r"[^\W\d_]{3,}", plain.casefold()) if w not in word_list("stop")}
    words |= {w[:6] for g, _ in groups for w in re.findall(r"[^\W\d_]{3,}", g.name.casefold())}
    return _Facts(frozenset(numbers), frozenset(names), frozenset(words), plain.casefold(), bool(_NEGATION.search(plain)), shares)


def _stated(line: str) -> list[_Facts]:
    """What a source's sentence states: of clauses of which one says yes and another no, each apart, with the names of all."""
    whole = _facts(line)
    clauses = [_facts(c) for c in _CONTRAST.split(line)]
    if len(clauses) < 2 or len({c.negative for c in clauses}) < 2:
        return [whole]
    return [replace(c, names=whole.names) for c in clauses]


def _share(match: re.Match[str]) -> tuple[float, float]:
    """The bounds, in per cent, of a share in words."""
    words = re.sub(r"^(?:a|one)\s", "", match["share"].casefold().replace("-", " "))
    value = _SHARES[words]
    if match["more"]:
        return value, 100.0
    return (0.0, value) if match["less"] else (value - NEAR_SHARE, value + NEAR_SHARE)


def _judge(sentence: str, sources: Sources) -> CheckedSentence:
    verdict = _judge_whole(sentence, sources)
    if verdict.support not in (Support.UNSUPPORTED, Support.CONTRADICTED):
        return verdict
    clauses = [c for c in _CLAUSE.split(sentence) if c and c.strip()]
    if len(clauses) < 2 or any(len(c.split()) < LEAST_CLAUSE for c in clauses):
        return verdict
    parts = [_judge_whole(clause, sources) for clause in clauses]
    held = all(p.support is Support.SUPPORTED for p in parts)
    return CheckedSentence(sentence, Support.SUPPORTED, parts[0].source, parts[0].passage) if held else verdict


def _judge_whole(sentence: str, sources: Sources) -> CheckedSentence:
    """The verdict on a sentence, or a clause of one, held to one sentence of a source."""
    facts = _facts(sentence)
    if (support := _without_sources(sentence, facts)) is not None:
        return CheckedSentence(sentence, support)
    cited = set(re.findall(r"PMID:? ?(\d{1,9})", sentence))
    best: tuple[float, Evidence, str] | None = None
    contradicted = False
    for source, line, other in sources.lines:
        if source.question or (cited and not any(p == source.name or p in source.text for p in cited)):
            continue
        share = len(facts.words & other.words) / len(facts.words) if facts.words else float(len(facts.numbers) > 1)
        if share < LEAST_LINKED:
            continue
        if other.lower.strip() == facts.lower.strip() or _agrees(facts, other, sources.evidence):
            if share >= (LEAST_LINKED if facts.numbers else LEAST_WORDS):
                best = max(best or (0.0, source, line), (share, source, line), key=lambda b: b[0])
        else:
            contradicted |= share >= LEAST_WORDS
    if best is not None:
        return CheckedSentence(sentence, Support.SUPPORTED, best[1], best[2])
    return CheckedSentence(sentence, Support.CONTRADICTED if contradicted else Support.UNSUPPORTED)


def _without_sources(sentence: str, facts: _Facts) -> Support | None:
    """The verdict on a sentence that needs no source, or has nothing that a source could hold; None for all others."""
    if sentence.rstrip().endswith("?") or (not facts.numbers and _NEUTRAL.search(sentence.strip(" -*•#"))):
        return Support.NEUTRAL
    if not facts.words and not facts.numbers:  # a bare yes or no answers something
        return Support.UNSUPPORTED if re.match(r"\W*(?:yes|no)\b", sentence, re.IGNORECASE) else Support.NEUTRAL
    return Support.NEUTRAL if sentence.rstrip().endswith(":") and not facts.numbers else None


def _agrees(facts: _Facts, other: _Facts, sources: Sequence[Evidence]) -> bool:
    """Whether a source's sentence says the same: its numbers, its names, and yes where the sentence says yes."""
    question = " ".join(s.text for s in sources if s.question).casefold()
    if not all(_same_number(n, other.numbers) for n in facts.numbers):
        return False
    if facts.shares and not _same_shares(facts, other):
        return False
    if not _own_words(facts, other):
        return False
    if not all(name in other.names or name in other.lower or name in question for name in facts.names):
        return False
    if facts.negative != other.negative:
        return False
    mine, theirs = dict(_VALUED.findall(facts.lower)), dict(_VALUED.findall(other.lower))
    if any(k in theirs and not _same_number((v, ""), frozenset({(theirs[k], "")})) for k, v in mine.items()):
        return False
    return _same_order(facts, other) and _same_words(facts, other)


def _same_shares(facts: _Facts, other: _Facts) -> bool:
    """Whether the source has a percentage for each share in words, and beside the same as the sentence."""
    percents = [v for v, unit in other.numbers if unit == "%"]
    for least, most in facts.shares:
        near = [p for p in percents if least <= float(p) <= most]
        readings = [replace(facts, lower=facts.lower.replace(SHARE, f"{p} %", 1), shares=()) for p in near]
        if not any(all(_beside(f, other.lower, members) for members in (*_OPPOSITES, *_CLASSES)) for f in readings):
            return False
    return True


def _own_words(facts: _Facts, other: _Facts) -> bool:
    """Whether a number of several with one unit is said of what the source says it of.

    `a sensitivity of 93 % and a specificity of 97 %` holds no specificity of 93 %: what stands in the clauses of the other
    numbers alone must not stand in a sentence that has none of these numbers.
    """
    for unit in {u for _, u in facts.numbers if u and u != "score"}:
        mine = {v for v, u in facts.numbers if u == unit}
        clauses = [(_words_of(c), _values(c, unit)) for c in _PARTS.split(other.lower)]
        own = frozenset[str]().union(*(words for words, values in clauses if values & mine))
        others = frozenset[str]().union(*(words for words, values in clauses if values and not values & mine))
        if own and (others - own) & facts.words:
            return False
    return True


def _values(clause: str, unit: str) -> set[str]:
    return {f"{float(m[2].replace(',', '')):g}" for m in _NUMBER.finditer(clause) if _unit(m) == unit}


def _words_of(clause: str) -> frozenset[str]:
    return frozenset(w[:6] for w in re.findall(r"[^\W\d_]{3,}", clause) if w not in word_list("stop"))


def _unit(match: re.Match[str]) -> str:
    unit = (match[3] or "").casefold()
    return _UNITS.get(unit, unit)


def _same_order(facts: _Facts, other: _Facts) -> bool:
    """Whether a comparison has its names in the source's order: `A against B` is not `B against A`."""
    if not re.search(r"\b(?:compared|versus|vs|than|against|over)\b", facts.lower):
        return True
    shared = [n for n in facts.names & other.names if n in facts.lower and n in other.lower]
    return sorted(shared, key=facts.lower.find) == sorted(shared, key=other.lower.find)


def _same_words(facts: _Facts, other: _Facts) -> bool:
    """Whether no word of the sentence stands against its opposite, or against another class, of the source's."""
    if not all(_beside(facts, other.lower, members) for members in (*_OPPOSITES, *_CLASSES)):
        return False
    for a, b in _OPPOSITES:
        if _says(a, facts.lower) != _says(b, facts.lower):
            word, opposite = (a, b) if _says(a, facts.lower) else (b, a)
            if _says(opposite, other.lower) and not _says(word, other.lower):
                return False
    for members in _CLASSES:
        named = {m for m in members if _says(m, facts.lower)}
        there = {m for m in members if _says(m, other.lower)}
        if named and there and not named <= there:
            return False
    return True


def _beside(facts: _Facts, source: str, members: Sequence[str]) -> bool:
    """Whether, of words that exclude each other, each stands beside the same number as in the source.

    `68 Ki67-positive, 70 negative` does not say that 68 are negative. True where the source has one of them, or no such number.
    """
    there = [m for m in members if _says(m, source)]
    sentence = re.sub(r"(?<=\d)\s+of\s+\d[\d.,]*", " ", facts.lower)  # of `68 of 138` the first counts
    counts = [m for m in _NUMBER.finditer(sentence) if sentence[m.end(2) : m.end(2) + 1] != "+"]  # 3+ is a score
    numbers = [(m.start(), m.end(), f"{float(m[2].replace(',', '')):g}{'%' if _unit(m) == '%' else ''}") for m in counts]
    for word in there if len(there) > 1 and numbers else []:
        for place in re.finditer(rf"(?<!\w){re.escape(word)}", sentence):
            value = min(numbers, key=lambda n: min(abs(n[0] - place.end()), abs(place.start() - n[1])))[2]
            if word.endswith("+") and not _listed(word, value, source):
                return False
            nearest = set(_nearest(value, source, there))
            if nearest and word not in nearest:
                return False
    return True


def _written(value: str) -> str:
    """The pattern of a number in a source; of a share (`50%`) only where the source has a share."""
    share = r"\s*(?:%|per ?cent)" if value.endswith("%") else ""
    return rf"(?<![\d.]){re.escape(value.removesuffix('%'))}0*(?!\d|\.\d){share}"


def _listed(score: str, value: str, source: str) -> bool:
    """Whether a list by score (`2+: 50 (25 %)`) holds the number with this score, or not at all."""
    parts = [c for c in _CLAUSES.split(source) if re.search(_written(value), c)]
    return not parts or any(score in c for c in parts)


def _nearest(value: str, source: str, members: Sequence[str]) -> Iterator[str]:
    """The member beside each occurrence of a number in a source, within its clause."""
    for clause in _CLAUSES.split(source):
        for number in re.finditer(_written(value), clause):
            places = [
                (min(abs(m.start() - number.end()), abs(number.start() - m.end())), w)
                for w in members
                for m in re.finditer(rf"(?<!\w){re.escape(w)}", clause)
            ]
            if places:
                yield min(places)[1]


def _same_number(number: tuple[str, str], others: frozenset[tuple[str, str]]) -> bool:
    """The same value in the same unit, or rounded (49 % of 49.3 %); a value without a unit may have one in the source."""
    value, unit = number
    decimals = len(value.partition(".")[2])
    if "+" in value:
        return number in others or (value, "score") in others or (value, "") in others
    if unit == "%" and any(u == "%" for _, u in others):
        others = frozenset(o for o in others if o[1] == "%")  # a count is no share
    return any(
        (unit == u or not unit or not u) and round(float(v), decimals) == float(value)
        for v, u in others
        if u != "score" and "+" not in v
    )


def _says(word: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(word)}(?:s|d|ly)?(?![\w-])", text) is not None
