"""A brain's own words held to the sources of the conversation, for answers and for replies to programs with tools of their own.

Knows the checker, the kinds of sources and the fixed words; no brain and no tool.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pathasst.assistant import citations, sanitize
from pathasst.assistant.checker import CheckedSentence, Evidence, Support, check
from pathasst.assistant.compose import fixed
from pathasst.assistant.grounding import Grounding
from pathasst.assistant.statements import Kind, Statement, text_of
from pathasst.core.records import Hit, ToolResult, Turn


@dataclass(frozen=True, slots=True)
class CheckedReply:
    """What is left of a model's words. `statements`: each with its source; `notices`: what was left out or has no source."""

    text: str
    statements: list[Statement] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


def hold(
    text: str,
    sources: Sequence[Evidence],
    grounding: Grounding,
    question: str = "",
    results: Callable[[], Sequence[Statement]] = list,
) -> CheckedReply:
    """A model's text without the sentences that a source contradicts or, unless it is MARKED, that no source holds.

    `results`: what the results of the question say by themselves; they are the answer when nothing of the text is left.
    """
    left_out = (Support.CONTRADICTED,) if grounding is Grounding.MARKED else (Support.CONTRADICTED, Support.UNSUPPORTED)
    checked = check(text, sources)
    dropped = [c for c in checked if c.support in left_out]
    for sentence in dropped:
        text = text.replace(sentence.text, "", 1)
    text = (
        re.sub(r"(?m)^[ \t]*(?:[-*•]|\d{1,2}[.)])?[ \t]*$\n?", "", re.sub(r"[ \t]{2,}", " ", text)).strip() if dropped else text
    )
    statements = [_statement(c) for c in checked if c not in dropped]
    notices = []
    if dropped:
        many = f"{len(dropped)} sentence{'s' * (len(dropped) > 1)} of the model {'were' if len(dropped) > 1 else 'was'} left out"
        notices.append(f"{many}: no source here says so.")
    unsourced = sum(c.support is Support.UNSUPPORTED for c in checked if c not in dropped)
    if unsourced:
        notices.append(f"{unsourced} sentence{'s' * (unsourced > 1)} from the model's own knowledge, checked by nothing.")
    if not re.search(r"\w", text) and (dropped or results()):
        statements = list(results()) or fixed.cannot(question, "The model said nothing that a source here holds.")
        text = text_of(statements)
    return CheckedReply(text, statements, notices)


def evidence_of(results: Iterable[ToolResult], library: Mapping[str, Hit], turns: Sequence[Turn]) -> list[Evidence]:
    """The sources of a conversation: results, retrieved abstracts, earlier tool turns, and the person's words.

    Of a search of the literature the abstracts are sources, each by its PMID, and the list that the brain read is none: it has
    the retracted ones too.
    """
    results = list(results)
    searches = {r.name for r in results if r.hits}
    sources = [Evidence(r.name, " ".join([r.text, *r.warnings])) for r in results if not r.error and not r.hits]
    sources += [
        Evidence(f"PMID {pmid}", f"{hit.title} ({hit.year}).\n{hit.passage}")
        for pmid, hit in library.items()
        if not hit.retracted
    ]
    sources += [Evidence(t.tool or "tool", t.content) for t in turns if t.role == "tool" and t.tool not in searches]
    return [*sources, *(Evidence("question", t.content, question=True) for t in turns if t.role == "user")]


def reply_held(turn: Turn, turns: Sequence[Turn], grounding: Grounding) -> Turn:
    """One reply to a program that runs tools itself, with the same checks as an answer.

    A brain that is not trusted at all hands on calls and results; its own words never leave.
    """
    start = max((n for n, t in enumerate(turns) if t.role == "user"), default=0)
    question = turns[start].content if turns else ""
    results = [t for t in turns[start:] if t.role == "tool"]
    if grounding is Grounding.COMPOSED:
        if turn.tool_calls:
            return replace(turn, content="")
        return replace(turn, content=text_of(_by_themselves(results)) or text_of(fixed.cannot(question)))
    if not turn.content:
        return turn
    numbers = {n for t in turns if t.role == "tool" for n in re.findall(r"\b\d{5,9}\b", t.content)}
    library = {n: Hit(pmid=n, title="", passage="") for n in numbers}
    text = citations.check(sanitize.without_links(sanitize.plain(turn.content)), library).text
    checked = hold(text, evidence_of((), {}, turns), grounding, question, lambda: _by_themselves(results))
    return replace(turn, content="\n\n".join([checked.text, *(f"({n})" for n in checked.notices)]).strip())


def _by_themselves(results: Sequence[Turn]) -> list[Statement]:
    """The results of a program's own tools in their own words, a line each."""
    return [
        Statement(text=f"{t.tool or 'The tool'}: {sanitize.as_data(t.content)}", kind=Kind.TOOL, source=t.tool, item=True)
        for t in results
    ]


def _statement(checked: CheckedSentence) -> Statement:
    if checked.support is not Support.SUPPORTED:
        return Statement(text=checked.text, kind=Kind.MODEL, source="the model")
    kind = (
        Kind.PASSAGE
        if checked.source.startswith("PMID ")
        else {"glossary": Kind.GLOSSARY, "look": Kind.LOOK}.get(checked.source, Kind.TOOL)
    )
    return Statement(text=checked.text, kind=kind, source=checked.source.removeprefix("PMID "), evidence=checked.passage)
