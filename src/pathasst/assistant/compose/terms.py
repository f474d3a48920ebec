"""Answers from the glossary: which term a question means, and what the entry says. Knows questions' forms in six languages."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pathasst.assistant.compose.measures import of_glossary, side_of
from pathasst.assistant.compose.wishes import asks, defined_forms, word_list
from pathasst.assistant.statements import Kind, Statement
from pathasst.tools.glossary import Glossary, GlossaryEntry

_CUT_OFFS = {
    "Ki67": "Ki67 cut-off",
    "Ki67 index": "Ki67 cut-off",
    "PD-L1": "TPS cut-off",
    "TPS": "TPS cut-off",
    "HER2": "HER2 score",
}
_LIMITS = {"Ki67 cut-off": ((5.0, 20.0, 30.0), "A Ki67 index"), "TPS cut-off": ((1.0, 50.0), "A TPS")}
_FIELD = frozenset({"cancer", "neoplasm", "carcinoma", "biopsy", "benign", "malignant"})
_PERCENT = re.compile(r"(\d+(?:[.,]\d+)?)\s*(?:%|per ?cent|percent|prozent|por ciento|pour ?cent|per cento)", re.IGNORECASE)


_AROUND = re.compile(  # what follows a term and changes nothing of what is asked
    r"\s+(?:in (?:pathology|cytology|a report|the report|my report|this context|medicine|simple words|general)"
    r"|to a (?:student|patient|first|lay|child)"
    r"|for (?:dummies|a (?:student|patient|layman))|im (?:op-|arzt)?(?:bericht|befund|brief)"
    r"|in (?:meinem|der|dem|einem) \w+|für laien"
    r"|en (?:mi|el|un|la) \w+|dans (?:mon|le|un|la) \w+|nel (?:mio )?\w+|sul referto)\b.*$",
    re.IGNORECASE,
)


def defined(question: str) -> GlossaryEntry | None:
    """The entry of the one term that a question asks the meaning of; None where it asks no meaning, or there is no entry."""
    glossary = Glossary.load()
    for pattern in defined_forms():
        if match := pattern.search(question):
            term = _AROUND.sub("", match["x"].strip(" ?.!\"'“”„«»"))
            if entry := glossary.lookup(term) or _inside(glossary, term):
                return entry
    bare = question.strip(" ?.!？。")
    return glossary.lookup(bare) if len(bare.split()) <= 3 else None


def _inside(glossary: Glossary, phrase: str) -> GlossaryEntry | None:
    """The one entry named in a phrase that holds it and words such as `category` or `score` alone (`the NILM category`)."""
    entries = specific(glossary.mentions(phrase))
    if len(entries) != 1:
        return None
    names = (entries[0].term, entries[0].stands_for, *entries[0].also)
    rest = re.sub(
        "|".join(re.escape(n) for n in sorted(filter(None, names), key=len, reverse=True)), " ", phrase, flags=re.IGNORECASE
    )
    return entries[0] if set(re.findall(r"[^\W\d_]+", rest.casefold())) <= word_list("around") else None


def specific(entries: Sequence[GlossaryEntry]) -> list[GlossaryEntry]:
    """The entries without those that name the whole field (cancer, tumour), where there are others."""
    return [e for e in entries if e.term not in _FIELD] or list(entries)


def is_definition(question: str) -> bool:
    """Whether the words ask what something means, whether or not there is an entry."""
    return asks("strong", question) and any(p.search(question) for p in defined_forms())


def explained(entries: Sequence[GlossaryEntry]) -> list[Statement]:
    """The entries as statements, each once."""
    return [of_glossary(entry.term) for entry in {e.term: e for e in entries}.values()]


def judged_value(question: str) -> list[Statement]:
    """`Is a Ki67 of 20 % high?`: the cut-off with its source, and where the value lies; empty where no such value is named."""
    value = _PERCENT.search(question) or re.search(r"(?:of|at|von|de|di)\s+(\d{1,3}(?:[.,]\d+)?)\b", question)
    mentions = Glossary.load().mentions(question)
    if scores := [e for e in mentions if re.fullmatch(r"HER2 [0-3]\+?", e.term)]:
        return explained(scores)
    terms = [_CUT_OFFS[e.term] for e in mentions if e.term in _CUT_OFFS]
    score = re.search(r"(?<![\w.])[0-3]\+(?!\w)", question)
    if "HER2 score" in terms and score:
        return explained([Glossary.load().get(f"HER2 {score[0]}")])
    if not terms or not value:
        return []
    statements = []
    if value and terms[0] in _LIMITS:
        limits, what = _LIMITS[terms[0]]
        number = float(value[1].replace(",", "."))
        if number <= 100:
            side = side_of(number, limits, what)
            statements.append(
                Statement(text=side, kind=Kind.GLOSSARY, source=terms[0], evidence=Glossary.load().get(terms[0]).citation)
            )
    return [*statements, of_glossary(terms[0])]
