"""From what happened to the Answer: references checked, and said plainly what went wrong. Knows no brain and runs nothing."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pathasst.assistant import citations, sanitize
from pathasst.assistant.answer import Answer, RetrievedAbstract, Step
from pathasst.assistant.checker import Sources
from pathasst.assistant.checking import CheckedReply, evidence_of, hold
from pathasst.assistant.grounding import Grounding
from pathasst.assistant.images import ChatPictures
from pathasst.assistant.statements import Kind, Statement, text_of
from pathasst.core.records import FAILED, Hit, ToolResult, Turn
from pathasst.tools.protocol import ToolCard

library_of = citations.retrieved

NOT_RUN = "stopped before it ran."
_STOPS = {
    "limit": "The model went on asking for tools after its limit and was stopped.",
    "time": "The time for this question ran out before the model had answered.",
    "cancelled": "The question was cancelled before the model had answered.",
    "brain": "The model failed before it had answered",
}


@dataclass(slots=True)
class Draft:
    """What is known about the question in hand. Grows while the loop runs, and is all that an Answer is made from."""

    question: str
    chat_pictures: ChatPictures
    turns: list[Turn]  # the whole conversation; this question is the last user turn
    library: dict[str, Hit]  # PMID → abstract, all of the conversation
    steps: list[Step] = field(default_factory=list)
    statements: list[Statement] = field(default_factory=list)  # of an answer that was composed
    earlier: list[ToolResult] = field(default_factory=list)  # of the question before
    steps_by_key: dict[str, Step] = field(default_factory=dict)  # calls already run, by what they ask
    stopped: str = ""
    failure: str = ""
    started: float = field(default_factory=time.monotonic)

    def sources(self) -> Sources:
        """What the model's words are held to."""
        return evidence_of([*self.earlier, *(s.result for s in self.steps)], self.library, self.turns)


def conclude(
    draft: Draft,
    brain: str,
    cards: Mapping[str, ToolCard],
    history: Answer | None = None,
    grounding: Grounding = Grounding.CHECKED,
    results: Callable[[], Sequence[Statement]] = list,
) -> Answer:
    """The Answer of a finished or stopped question.

    `cards`: of the tools on offer, by name; `results`: what the steps' results say by themselves, for a model whose own words
    do not stand.
    """
    last = draft.turns[-1]
    raw = last.content if last.role == "assistant" else ""
    result = CheckedReply(raw)
    if draft.statements:  # composed: every reference comes from a result or the glossary
        passages = dict.fromkeys(s.source for s in draft.statements if s.kind is Kind.PASSAGE)
        checked = citations.CheckedText(text_of(draft.statements), cited=[p for p in passages if p in draft.library])
    else:
        result = hold(raw, draft.sources(), grounding, draft.question, results)
        checked = citations.check(sanitize.without_links(result.text), draft.library)
    retrieved = library_of(step.result for step in draft.steps)
    pmids = dict.fromkeys([*checked.cited, *retrieved])
    abstracts = [RetrievedAbstract(hit=draft.library[pmid], cited=pmid in checked.cited) for pmid in pmids]
    return Answer(
        question=draft.question,
        text=checked.text or "(The model gave no answer.)",
        statements=draft.statements or result.statements,
        raw="" if draft.statements else raw,
        brain=brain,
        steps=draft.steps,
        sources=abstracts,
        struck=checked.struck,
        notices=_about_composed(draft)
        if draft.statements
        else [
            *_about_the_run(draft, raw),
            *result.notices,
            *_about_tools(draft, cards),
            *_about_references(checked, abstracts, bool(retrieved)),
            *(
                f"The words beside [PMID {cited}] are nearer to the abstract of PMID {nearer}: the reference may be misplaced."
                for cited, nearer in citations.misplaced(checked.text, draft.library)
            ),
            *_about_figures(draft, raw, history),
        ],
        stopped=draft.stopped,
        seconds=time.monotonic() - draft.started,
        turns=_closed(draft.turns),
        pictures=list(draft.chat_pictures.entries),
        library=draft.library,
    )


def _about_the_run(draft: Draft, raw: str) -> list[str]:
    notices = []
    if draft.stopped:
        notices.append(_STOPS[draft.stopped] + (f": {draft.failure}" if draft.failure else ""))
    if not raw and draft.steps:
        notices.append("The model wrote no answer; what its tools found is shown as they gave it.")
    if raw and not draft.steps:
        notices.append("No tool was run: these are the model's own words, checked by nothing.")
    if claimed := _claimed_calls(raw, draft):
        notices.append(
            f"The model wrote about running {', '.join(claimed)}, but made no such call: nothing of that kind was run."
        )
    return notices


def _about_composed(draft: Draft) -> list[str]:
    """What the statements do not say themselves: a stop, repaired calls, synthetic pictures, other markers."""
    quiet = ("warns:", "gave no result:", "is not validated")
    stop = [_STOPS[draft.stopped].replace("the model", "it")] if draft.stopped else []
    return [*stop, *(n for n in _about_tools(draft, {}) if not any(q in n for q in quiet))]


def _about_tools(draft: Draft, cards: Mapping[str, ToolCard]) -> list[str]:
    notices = [notice] if (notice := _other_marker(draft, cards)) else []
    for step in draft.steps:
        name = step.call.name or "A call"
        if step.result.error:
            notices.append(f"{name} gave no result: {step.result.error}")
        elif step.repairs:
            notices.append(f"The call of {name} did not fit and was repaired before it ran: {'; '.join(step.repairs)}.")
        notices += [f"{name} warns: {warning}" for warning in step.result.warnings]
        if any(s.synthetic for s in draft.chat_pictures.entries if s.handle == step.image):
            notices.append(f"{name} ran on a synthetic picture: its result says nothing about any patient.")
        if any(s.synthetic for s in draft.chat_pictures.entries if s.handle in step.made):
            notices.append(f"{', '.join(step.made)} made by {name}: synthetic, not photographed.")
        card = cards.get(step.call.name)
        if card and step.image and not card.validated and not step.result.error:
            notices.append(f"{name} is not validated for this task{': ' + card.limits.rstrip('.') if card.limits else ''}.")
    if withheld := sum(step.withheld for step in draft.steps if not step.repeated):
        what = "1 sentence of tool output was" if withheld == 1 else f"{withheld} sentences of tool output were"
        notices.append(f"{what} withheld from the model: written to an assistant rather than to a reader.")
    return list(dict.fromkeys(notices))


def _other_marker(draft: Draft, cards: Mapping[str, ToolCard]) -> str:
    """Says that the question names a marker (ki67, her2, pdl1) while another tool than the one named after it was run."""
    ran = [step.call.name for step in draft.steps if step.image]
    letters = re.sub(r"[^a-z0-9]", "", draft.question.lower())
    for name in cards:
        marker = name.split("_")[0]
        if ran and name not in ran and marker in letters and any(c.isdigit() for c in marker):
            return f"The question names {marker}, but {name} was not run; the model chose {', '.join(dict.fromkeys(ran))}."
    return ""


def _about_references(checked: citations.CheckedText, sources: list[RetrievedAbstract], searched: bool) -> list[str]:
    notices = []
    if checked.struck:
        count = len(checked.struck)
        notices.append(
            f"{count} reference{'s' * (count > 1)} struck out, because no search of this conversation retrieved "
            f"{'them' if count > 1 else 'it'}: {', '.join(checked.struck)}."
        )
    if searched and not checked.cited:
        notices.append(
            "The model cited none of the abstracts that were retrieved; they are listed as retrieved, not as its sources."
        )
    if checked.unchecked:
        notices.append(f"References without a PMID could not be checked: {'; '.join(checked.unchecked)}.")
    if retracted := [s.hit.pmid for s in sources if s.hit.retracted]:
        notices.append(f"Retracted: PMID {', '.join(retracted)}.")
    return notices


def _about_figures(draft: Draft, raw: str, history: Answer | None) -> list[str]:
    if not draft.steps and not (history and history.steps):
        return []
    results = [*draft.steps, *(history.steps if history else [])]
    texts = [t.content for t in draft.turns if t.role in ("user", "tool")] + [s.result.text for s in results]
    passages = [f"{hit.title} {hit.passage}" for hit in draft.library.values()]
    numbers = [n for s in results for n in _numbers([s.result.numbers, s.call.arguments])]
    strange = citations.unbacked_figures(raw, [*texts, *passages], numbers)
    return [f"Figures in the answer that no tool and no passage gave: {', '.join(strange)}."] if strange else []


def _claimed_calls(raw: str, draft: Draft) -> list[str]:
    """Tools that the text says it invokes (the paper's `Invoke <tool>`) without having called them."""
    ran = {step.call.name for step in draft.steps}
    claimed = re.findall(
        r"\b(?:invok|call|us|runn?)(?:e|ed|es|ing|s)?\s+(?:the\s+)?`?([a-z0-9]+_[a-z0-9_]+)`?", raw, re.IGNORECASE
    )
    return [name for name in dict.fromkeys(c.lower() for c in claimed) if name not in ran]


def _numbers(value: Any) -> Iterable[float]:
    if isinstance(value, bool):
        return
    if isinstance(value, int | float):
        yield float(value)
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _numbers(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _numbers(inner)


def _closed(turns: list[Turn]) -> list[Turn]:
    """The turns with every call answered and the assistant last, so that the conversation can go on after a stop."""
    closed: list[Turn] = []
    open_calls: list[str] = []
    for turn in turns:
        if turn.role == "tool":
            open_calls = open_calls[1:]
        else:
            closed += map(_stopped, open_calls)
            open_calls = [call.name for call in turn.tool_calls]
        closed.append(turn)
    closed += map(_stopped, open_calls)
    if closed[-1].role != "assistant":
        closed.append(Turn(role="assistant", content="(no answer)"))
    return closed


def _stopped(tool: str) -> Turn:
    return Turn(role="tool", tool=tool, content=f"{FAILED}{NOT_RUN}", error=NOT_RUN)
