"""A brain's own words held to the sources of the conversation, for answers and for replies to programs with tools of their own.

Knows the checker, the kinds of sources and the fixed words; no brain and no tool.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pathasst.assistant import citations, sanitize
from pathasst.assistant.checker import CheckedSentence, Evidence, Sources, Support, check, open_sentence
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


@dataclass(slots=True)
class Sieve:
    """A model's text without the sentences that a source contradicts or, unless it is MARKED, that no source holds.

    The text may come in pieces: a sentence is judged when the next one begins. What `add` and `close` return, joined, does not
    depend on the pieces. Between two sentences that stand, the widest of the gaps is left (a paragraph before a blank).
    """

    sources: Sources
    grounding: Grounding
    standing: list[CheckedSentence] = field(default_factory=list)
    dropped: list[CheckedSentence] = field(default_factory=list)
    _pending: str = ""
    _next_look: int = 0  # characters of pending text at which a sentence is looked for again: a long one costs linear time
    _between: str = ""  # after the last sentence judged
    _gap: str = ""  # after the last one that stands

    def add(self, piece: str) -> str:
        """The sentences that are whole now that `piece` has come, and stand."""
        self._pending += piece
        if len(self._pending) < self._next_look and "\n" not in piece:
            return ""
        end = open_sentence(self._pending)
        self._next_look = (len(self._pending) - end) * 9 // 8
        return self._judged(end)

    def close(self) -> str:
        """The rest."""
        rest = self._judged(len(self._pending))
        self._widen(self._between)
        mark = self._gap.rstrip() if self._gap.strip() else ""
        return rest + mark

    def _judged(self, end: int) -> str:
        text, self._pending = self._pending[:end], self._pending[end:]
        left_out = (Support.CONTRADICTED,) if self.grounding is Grounding.MARKED else (Support.CONTRADICTED, Support.UNSUPPORTED)
        parts, place = [], 0
        for sentence in check(text, self.sources):
            start = text.index(sentence.text, place)
            self._widen(self._between + text[place:start])
            self._between = ""
            place = start + len(sentence.text)
            if sentence.support in left_out:
                self.dropped.append(sentence)
                continue
            parts += [self._gap if self.standing else self._gap.lstrip(), sentence.text]
            self._gap = ""
            self.standing.append(sentence)
        self._between += text[place:]
        return "".join(parts)

    def _widen(self, gap: str) -> None:
        """Marks without words (a table's rule) stay; else the gap of more lines."""
        if self._gap.strip() or gap.strip():
            self._gap += gap
        elif (gap.count("\n"), len(gap)) > (self._gap.count("\n"), len(self._gap)):
            self._gap = gap


def hold(
    text: str,
    sources: Sources,
    grounding: Grounding,
    question: str = "",
    results: Callable[[], Sequence[Statement]] = list,
) -> CheckedReply:
    """A model's whole text as `Sieve` lets it through, with its sources and what was left out.

    `results`: what the results of the question say by themselves; they are the answer when nothing of the text is left.
    """
    sieve = Sieve(sources, grounding)
    text = (sieve.add(text) + sieve.close()).strip()
    statements = [_statement(c) for c in sieve.standing]
    notices = []
    if dropped := len(sieve.dropped):
        many = f"{dropped} sentence{'s' * (dropped > 1)} of the model {'were' if dropped > 1 else 'was'} left out"
        notices.append(f"{many}: no source here says so.")
    unsourced = sum(c.support is Support.UNSUPPORTED for c in sieve.standing)
    if unsourced:
        notices.append(f"{unsourced} sentence{'s' * (unsourced > 1)} from the model's own knowledge, checked by nothing.")
    if not re.search(r"\w", text) and (dropped or results()):
        statements = list(results()) or fixed.cannot(question, "The model said nothing that a source here holds.")
        text = text_of(statements)
    return CheckedReply(text, statements, notices)


def evidence_of(results: Iterable[ToolResult], library: Mapping[str, Hit], turns: Sequence[Turn]) -> Sources:
    """The sources of a conversation: results, retrieved abstracts, earlier tool turns, and the person's words.

    Of a search of the literature the abstracts are sources, each by its PMID, and the list that the brain read is none: it has
    the retracted ones too.
    """
    results = list(results)
    searches = {r.name for r in results if r.hits}
    kinds = {"glossary": Kind.GLOSSARY, "look": Kind.LOOK}
    sources = [
        Evidence(r.name, " ".join([r.text, *r.warnings]), kinds.get(r.name, Kind.TOOL))
        for r in results
        if not r.error and not r.hits
    ]
    sources += [
        Evidence(pmid, f"{hit.title} ({hit.year}).\n{hit.passage}", Kind.PASSAGE)
        for pmid, hit in library.items()
        if not hit.retracted
    ]
    sources += [
        Evidence(t.tool or "tool", t.content, kinds.get(t.tool, Kind.TOOL))
        for t in turns
        if t.role == "tool" and t.tool not in searches
    ]
    return Sources([*sources, *(Evidence("question", t.content, question=True) for t in turns if t.role == "user")])


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
    words = sanitize.without_links(checked.text)
    if checked.source is None:
        return Statement(text=words, kind=Kind.MODEL, source="the model")
    return Statement(text=words, kind=checked.source.kind, source=checked.source.name, evidence=checked.passage)
