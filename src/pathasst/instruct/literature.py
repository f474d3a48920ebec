"""What the literature tool is asked, and what it may bring: real abstracts when a recipe names a file of them.

Knows `literature.yaml`, abstracts as JSON lines (`pmid`, `title`, `abstract`) and the text of a search result:
one line a hit, `[PMID 12345678] Title (Year). Passage`.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import lzma
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any, TextIO

from pathasst.core.errors import BadSettings
from pathasst.core.records import Hit
from pathasst.core.templates import Template
from pathasst.core.text import sentences
from pathasst.instruct.wordings import Wordings, capital, choices

OTHERS = (0, 1, 1, 2, 2, 3)  # hits beside the one that answers
REAL = 0.6  # share of the cases that are real abstracts, where some are given
MAX_ABSTRACTS = 20_000
MAX_PASSAGE_WORDS, MAX_FINDING_WORDS = 60, 38
_STOP_TEXT = (
    "a an the of in on for and or to with by from at as is are was were be been it its this that these those does "
    "do did how what which who when where why can could should would may might will shall has have had not no there "
    "their than then we our you your i me my into between among about regarding play plays role case report study "
    "analysis using use used after before during patients patient often found seen any new "
)
_STOP = frozenset(_STOP_TEXT.split())
_HEADING = re.compile(r"\b(?:CONCLUSIONS?|INTERPRETATION|FINDINGS)\s*[:.]\s*", re.IGNORECASE)
_LABEL = re.compile(r"\b[A-Z][A-Z /&,]{4,40}:\s*")


@lru_cache(maxsize=2)
def literature(wordings: Wordings, abstracts: str = "") -> Literature:
    """The literature of a set of wordings, read once a process."""
    return Literature(wordings, abstracts)


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to look up: how it is said, the query it should give, the hits, and the answering sentence of the first hit."""

    topic: str
    question: str  # a whole question, or empty
    query: str
    hits: list[Hit] = field(default_factory=list)
    finding: str = ""


def result_text(hits: Sequence[Hit], query: str) -> str:
    """The text of a search result, as the tool writes it."""
    lines = (f"[PMID {h.pmid}] {h.title.rstrip('.')} ({h.year}).{' RETRACTED.' if h.retracted else ''} {h.passage}" for h in hits)
    return "\n".join(lines) or f"No abstract matches {query!r}."


def query_of(text: str) -> str:
    """The content words of a question, in order and each once, at most ten: what a person types into a search box."""
    words = [w.strip("-'") for w in re.findall(r"[\w+\-'/]+", text)]
    names = [w for w in words if w and w.lower() not in _STOP]
    return " ".join(list(dict.fromkeys(names))[:10])


class Literature:
    """Draws cases. Real abstracts go to one split by the hash of their PMID, so that none is both in train and test."""

    def __init__(self, wordings: Wordings, abstracts: str = "") -> None:
        self.node: Any = wordings.load("literature")
        self.real: dict[str, list[dict[str, str]]] = {"train": [], "val": [], "test": []}
        if abstracts:
            for row in _usable(Path(abstracts)):
                self.real[_split_of(row["pmid"])].append(row)

    def draw(self, rng: Random, split: str) -> Case:
        """A case for a split."""
        pool = self.real[split]
        if len(pool) > 20 and rng.random() < REAL:
            return self._real(rng, pool)
        return self._invented(rng, split)

    def _real(self, rng: Random, pool: list[dict[str, str]]) -> Case:
        row, others = rng.choice(pool), rng.sample(pool, rng.choice(OTHERS))
        title = row["title"].strip(" .[]")
        question = title if title.endswith("?") else ""
        topic = _topic_of(title.rstrip("?"))
        hits = [_hit(row, rng), *(_hit(o, rng) for o in others if o is not row)]
        return Case(topic, question, query_of(question or topic), hits, row["finding"])

    def _invented(self, rng: Random, split: str) -> Case:
        def slot(name: str) -> str:
            values = self.node[name]
            return str(rng.choice(values["test" if split == "test" else "train"]))

        slots = {k: slot(k) for k in ("disease", "marker", "treatment", "outcome")}
        slots |= _figures(rng)
        asking, stating, about = rng.choice(choices(self.node["questions"], split))
        question = capital(Template(asking).fill(rng, slots))
        finding = capital(Template(stating).fill(rng, slots))
        subject = Template(about).fill(rng, slots)
        topic = "" if rng.random() < 0.5 else subject
        hits = [self._hit(rng, finding, slots, subject)]
        for _ in range(rng.choice(OTHERS)):
            other = {**slots, **_figures(rng), **{k: slot(k) for k in ("marker", "treatment", "disease")}}
            _, stating, about = rng.choice(choices(self.node["questions"], split))
            hits.append(self._hit(rng, capital(Template(stating).fill(rng, other)), other, Template(about).fill(rng, other)))
        return Case(topic, "" if topic else question, query_of(topic or question), hits, finding)

    def _hit(self, rng: Random, finding: str, slots: dict[str, str], topic: str) -> Hit:
        slots = {**slots, "topic": topic, "Topic": capital(topic), "finding": finding}
        slots["background"] = Template(rng.choice(self.node["background"])).fill(rng, slots)
        title = Template(rng.choice(self.node["titles"])).fill(rng, slots)
        passage = Template(rng.choice(self.node["passage"])).fill(rng, slots)
        return Hit(pmid=str(rng.randint(1_000_000, 39_999_999)), title=title, passage=passage, year=rng.randint(1988, 2025))


def _figures(rng: Random) -> dict[str, str]:
    return {"n": str(rng.randint(21, 1400)), "percent": str(rng.randint(4, 96))}


def _usable(path: Path) -> Iterator[dict[str, str]]:
    """Abstracts with a short conclusion, at most `MAX_ABSTRACTS`. Raises BadSettings when the file cannot be read."""
    count = 0
    try:
        with _open(path) as lines:
            for line in lines:
                row = json.loads(line)
                finding = _finding(row.get("abstract") or "")
                title = (row.get("title") or "").strip()
                if (
                    finding
                    and 4 <= len(title.split()) <= 18
                    and not title.startswith("[")
                    and _answers(title, finding)
                    and str(row.get("pmid", "")).isdigit()
                ):
                    year = str(row.get("date") or row.get("year") or "")[:4]
                    yield {
                        "pmid": str(row["pmid"]),
                        "title": title,
                        "abstract": row["abstract"],
                        "finding": finding,
                        "year": year,
                    }
                    count += 1
                    if count == MAX_ABSTRACTS:
                        return
    except (OSError, ValueError, lzma.LZMAError) as error:
        raise BadSettings(f"the abstracts in {path} cannot be read (JSON lines with pmid, title, abstract): {error}") from error


def _open(path: Path) -> TextIO:
    if path.suffix == ".xz":
        return lzma.open(path, "rt", encoding="utf-8")
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8")


def _answers(title: str, finding: str) -> bool:
    """Whether the finding speaks of what the title asks: they share a longer word."""
    words = {w[:6].lower() for w in query_of(title).split() if len(w) > 4}
    return any(w[:6].lower() in words for w in query_of(finding).split())


def _finding(abstract: str) -> str:
    """The first sentence of the conclusion, or the last sentence; empty when it is too long to be said."""
    tail = _HEADING.split(abstract)[-1] if _HEADING.search(abstract) else (sentences(abstract) or [""])[-1]
    first = (sentences(_LABEL.sub("", tail).strip()) or [""])[0]
    return first if 6 <= len(first.split()) <= MAX_FINDING_WORDS and first.endswith(".") else ""


def _hit(row: dict[str, str], rng: Random) -> Hit:
    """A hit whose passage holds the finding: the sentences before it, as far as they fit."""
    body = sentences(_LABEL.sub("", row["abstract"]).strip())
    passage = row["finding"]
    for sentence in reversed(body[:-1]):
        if sentence in passage or len((sentence + passage).split()) > rng.randint(25, MAX_PASSAGE_WORDS):
            break
        passage = f"{sentence} {passage}"
    year = int(row["year"]) if row["year"].isdigit() else rng.randint(1988, 2016)
    return Hit(pmid=row["pmid"], title=row["title"].rstrip("."), passage=passage, year=year)


def _topic_of(title: str) -> str:
    """A title as it is said inside a sentence: without the part after a colon, in lower case where it is a plain word."""
    head = title.split(":")[0].strip()
    head = head if len(head.split()) >= 3 else title
    first, _, rest = head.partition(" ")
    return f"{first.lower()} {rest}" if first == "A" or (first[:1].isupper() and first[1:].islower()) else head


def _split_of(pmid: str) -> str:
    n = int(hashlib.sha256(pmid.encode()).hexdigest()[:8], 16) % 20
    return "test" if n < 2 else "val" if n == 2 else "train"
