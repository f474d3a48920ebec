"""Answers from abstracts: their sentences that say something on the question, each with its PMID, or a list that says it is one.

Knows hits; searches nothing. A retracted abstract never stands as support.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pathasst.assistant.compose.fixed import NO_ADVICE, fixed
from pathasst.assistant.compose.wishes import asks
from pathasst.assistant.statements import Kind, Statement
from pathasst.core.records import Hit, ToolResult
from pathasst.papers.highlight import sentences
from pathasst.papers.question import QueryConcept, read_question
from pathasst.tools.papers_search import of_years

MOST_PASSAGES, MOST_LISTED = 4, 10
LEAST_SUBJECTS = 0.6
"""Share of the question's subjects that a sentence must hold, with one of its general words, to be quoted as an answer."""
_EVERYWHERE = frozenset(
    {"cancer", "tumour", "high", "low", "expression", "positive", "negative", "clinical", "level", "levels", "role"}
)
"""General words that say nothing of what is asked."""


def from_abstracts(question: str, result: ToolResult) -> list[Statement]:
    """What a search gave, for one question of a person."""
    numbers, hits = result.numbers, result.hits
    collection = str(numbers.get("collection", ""))
    statements = [fixed(f"PMID {pmid} is not in the collection here.") for pmid in numbers.get("not_here", ())]
    sound, retracted = [h for h in hits if not h.retracted], [h for h in hits if h.retracted]
    concepts = read_question(str(numbers.get("query") or question)).concepts
    pmids = read_question(question).pmids
    if pmids:
        for hit in sound:
            statements += [_titled(hit), *_summary(hit)]
    elif sound:
        statements += _answer(question, sound, concepts)
    elif not statements:
        names = ", ".join(numbers.get("absent", ()))
        years = of_years(numbers.get("since"), numbers.get("until"))
        statements.append(fixed(f"No abstract here{years} is about this{f': none names {names}' if names else ''}."))
    if retracted:
        listed = ", ".join(f"PMID {h.pmid}" for h in retracted)
        statements.append(fixed(f"Retracted, and not used as support: {listed}."))
    if asks("advice", question):
        statements.append(fixed(NO_ADVICE))
    if collection:
        statements.append(fixed(f"The collection: {collection}; what is not in it was not searched."))
    return statements


def _answer(question: str, hits: Sequence[Hit], concepts: Sequence[QueryConcept]) -> list[Statement]:
    """Sentences of abstracts that hold most of the question, else a list of abstracts."""
    wants_list = asks("list", question) and not asks("question", question)
    quotes = [] if wants_list else [q for hit in hits if (q := _quote(hit, concepts)) is not None][:MOST_PASSAGES]
    if quotes:
        lead = "Abstracts here say:" if len(quotes) > 1 else "One abstract here says:"
        return [fixed(lead), *quotes]
    many = "This is a list, not an answer: abstracts that are about it" if not wants_list else "Abstracts about it"
    return [fixed(f"{many}, the nearest first:"), *(_titled(hit) for hit in hits[:MOST_LISTED])]


def _quote(hit: Hit, concepts: Sequence[QueryConcept]) -> Statement | None:
    """The sentence of an abstract that holds the most of the question; of equals one that concludes, then the later one."""
    subjects = [c for c in concepts if not c.general]
    asides = [c for c in concepts if c.general and c.name.casefold() not in _EVERYWHERE]
    scored = []
    for place, sentence in enumerate(sentences(hit.passage)):
        if len(sentence.split()) < 6 or sentence.rstrip().endswith("?") or asks("aims", sentence):
            continue
        share = sum(_holds(c, sentence) for c in subjects) / max(len(subjects), 1)
        more = sum(_holds(c, sentence) for c in asides)
        if share >= LEAST_SUBJECTS and (more or not asides):
            scored.append((share + 0.2 * more, asks("concludes", sentence), place, sentence))
    if not scored:
        return None
    best = max(scored)[-1]
    year = f", {hit.year}" if hit.year else ""
    return Statement(
        text=f"“{_clean(best)}” [PMID {hit.pmid}]{year}", kind=Kind.PASSAGE, source=hit.pmid, evidence=best, item=True
    )


def _holds(concept: QueryConcept, sentence: str) -> bool:
    if concept.group is not None:
        return concept.group.within(sentence)
    stem = concept.name.casefold()[: max(4, len(concept.name) - 2)]
    return re.search(rf"(?<![^\W_]){re.escape(stem)}", sentence.casefold()) is not None


def _titled(hit: Hit) -> Statement:
    where = ", ".join(str(part) for part in (hit.journal, hit.year) if part)
    title = _clean(hit.title).rstrip(".")
    text = f"“{title}” [PMID {hit.pmid}]{f', {where}' if where else ''}"
    return Statement(text=text, kind=Kind.PASSAGE, source=hit.pmid, evidence=hit.title, item=True)


def _summary(hit: Hit) -> list[Statement]:
    """Its own first and last sentences; there is no summary of ours."""
    parts = sentences(hit.passage)
    sections = [parts[0], *parts[-2:]] if len(parts) > 3 else parts
    return [
        Statement(text=f"“{_clean(s)}” [PMID {hit.pmid}]", kind=Kind.PASSAGE, source=hit.pmid, evidence=s, item=True)
        for s in sections
    ]


def _clean(text: str) -> str:
    """A passage without marks that Markdown or a chat template would obey, on one line."""
    from pathasst.assistant.sanitize import as_data, without_links

    return " ".join(without_links(as_data(text)).replace("“", '"').replace("”", '"').split())
