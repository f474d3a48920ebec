"""What to do about a question when the answer is composed: which calls, and what is said from the glossary or in fixed words.

The router decides on tools; this room adds what the router does not know: the glossary, the look, PMIDs, results that are there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from pathasst.assistant.answer import PERSON, Answer, Step
from pathasst.assistant.compose import fixed, terms
from pathasst.assistant.compose.tools import capabilities, unavailable
from pathasst.assistant.compose.wishes import Wishes, asks
from pathasst.assistant.images import ARGUMENT, ChatPictures
from pathasst.assistant.statements import Statement
from pathasst.core.records import ToolCall
from pathasst.papers.question import concepts_of, read_question
from pathasst.router.route import Reason, Route
from pathasst.tools.glossary import Glossary, GlossaryEntry
from pathasst.tools.protocol import Registry

PAPERS, LOOK, CASES = "papers_search", "look", "similar_cases"
SUBJECTS = {"ki67_cells": "Ki-67", "her2_cells": "HER2", "pdl1_cells": "PD-L1", "blood_cells": "blood smear"}
"""What a tool's result is about, in the words of abstracts; of classes the class itself."""
MEASURED_BY = {
    "Ki67": "ki67_cells",
    "Ki67 index": "ki67_cells",
    "HER2": "her2_cells",
    "HER2 score": "her2_cells",
    "PD-L1": "pdl1_cells",
    "TPS": "pdl1_cells",
    "CPS": "pdl1_cells",
    "Bethesda System": "lbc_classify",
    "red blood cell": "blood_cells",
    "white blood cell": "blood_cells",
    "platelet": "blood_cells",
    "CBC": "blood_cells",
    "differential count": "blood_cells",
    "blast": "blood_cells",
    **dict.fromkeys(("NILM", "ASC-US", "ASC-H", "LSIL", "HSIL"), "lbc_classify"),
}
"""Terms that name what a tool measures: of a picture they ask for its value."""
_ORDINALS = {"first": 1, "second": 2, "third": 3, "fourth": 4, "erste": 1, "zweite": 2, "dritte": 3, "primera": 1, "segunda": 2}
_NUMBERED = re.compile(
    rf"\b({'|'.join(_ORDINALS)})n?\s+(?:picture|image|field|photo|one|slide|bild|imagen|foto)\b"
    r"|\b(?:picture|image|bild|imagen)\s*#?(\d{1,3})\b",
    re.IGNORECASE,
)
_AND = r",?\s+(?:and|und|y|et|e)\s+"


@dataclass(slots=True)
class Plan:
    """Calls to run, what is said before and after their results, and earlier results that the question is about."""

    calls: list[ToolCall] = field(default_factory=list)
    before: list[Statement] = field(default_factory=list)
    after: list[Statement] = field(default_factory=list)
    again: list[Step] = field(default_factory=list)


def plan(question: str, route: Route, chat_pictures: ChatPictures, registry: Registry, history: Answer | None) -> Plan:
    """The plan of one question. `route`: the router's decision on it."""
    case = _Case(" ".join(question.split()), route, chat_pictures, registry, history)
    steps = (
        case.talk,
        case.by_number,
        case.meaning_or_measure,
        case.earlier,
        case.evidence,
        case.refusal,
        case.named,
        case.look,
        case.rest,
    )
    return next(result for step in steps if (result := step()) is not None)


class _Case:
    """One question with all that a plan is made from. Each method gives the plan, or None where it is not its case."""

    def __init__(self, words: str, route: Route, chat_pictures: ChatPictures, registry: Registry, history: Answer | None) -> None:
        self.words, self.route, self.chat_pictures, self.registry, self.history = words, route, chat_pictures, registry, history
        self.wishes = Wishes.of(words)
        self.pictures = bool(chat_pictures.entries)
        self.offered = {spec.name for spec in registry.offered()}

    def talk(self) -> Plan | None:
        """Greetings, thanks, and what it can do."""
        if asks("capable", self.words) or self.route.reason is Reason.CAPABILITIES:
            answers = {"formats": fixed.FORMATS, "private": fixed.PRIVATE, "accurate": fixed.ACCURATE}
            words = [fixed.fixed(text) for name, text in answers.items() if asks(name, self.words)]
            return Plan(before=words or capabilities(self.registry))
        if asks("thanks", self.words) and not self.route.tools:
            return Plan(before=[fixed.fixed(fixed.THANKS[fixed.language(self.words)])])
        if asks("greets", self.words) or (self.route.reason is Reason.SMALL_TALK and self.route.confidence > 0.5):
            return Plan(before=[fixed.fixed(fixed.GREETING)])
        return None

    def by_number(self) -> Plan | None:
        """Abstracts that are asked for by their PMID."""
        return Plan(calls=[self._search()]) if PAPERS in self.offered and read_question(self.words).pmids else None

    def meaning_or_measure(self) -> Plan | None:
        """A term's meaning from the glossary, measurements by tools, literature beside them."""
        result, calls, literature = self._terms_and_calls()
        result.calls = self._on_pictures(calls) + [self._search()] * literature
        if (
            not result.calls
            and not result.before
            and (terms.is_definition(self.words) or (self.route.reason is Reason.DEFINITION and not self.pictures))
            and not (self.history and self.history.steps)
        ):
            entries = terms.specific(Glossary.load().mentions(self.words, misspelt=True))[:2]
            none = [fixed.fixed("The glossary here has no entry for this."), *fixed.cannot(self.words)]
            result.before = terms.explained(entries) or none
        return result if result.calls or result.before else None

    def _terms_and_calls(self) -> tuple[Plan, list[ToolCall], bool]:
        """What is said of terms; which tools run; whether the literature is searched."""
        result, entry = Plan(), terms.defined(self.words)
        calls = [c for c in self.route.calls if c.name != PAPERS]
        evidence = asks("evidence", self.words)
        literature = PAPERS in self.offered and (evidence or any(c.name == PAPERS for c in self.route.calls))
        tool = MEASURED_BY.get(entry.term, "") if entry else ""
        if entry and (asks("strong", self.words) or not self.pictures or tool not in self.offered):
            result.before = terms.explained([entry])
            if not self._several():
                calls, literature = [], literature and evidence
            if tool in self.registry.tools and not self.pictures and not asks("strong", self.words):
                result.after = [fixed.ask_for_picture(self.words, [self.registry.tools[tool].card.expects])]
            return result, calls, literature
        valued = self.wishes.any("high", "positive", "negative") and terms.judged_value(self.words)
        if valued and (not self.pictures or not (calls and asks("picture", self.words))):
            result.before, calls = valued, []
        elif entry and not calls and tool in self.offered:
            calls = [ToolCall(name=tool)]
        return result, calls, literature

    def earlier(self) -> Plan | None:
        """A further question about results that are there."""
        steps = [s for s in self.history.steps if not s.result.error] if self.history else []
        of_result = self.wishes.any("density", "high", "meaning", "sure", "count", "share", "types", "positive", "negative")
        if steps and (self.route.reason is Reason.RESULT or (of_result and asks("again", self.words))):
            return Plan(again=[s for s in steps if not s.result.hits] or steps)
        return None

    def evidence(self) -> Plan | None:
        """What is clinical and was not asked of a tool is asked of the literature."""
        return Plan(calls=[self._search()]) if asks("clinical", self.words) and PAPERS in self.offered else None

    def refusal(self) -> Plan | None:
        """What cannot be done, and what would help."""
        reason, tools = self.route.reason, [self.registry.tools[t] for t in self.route.tools if t in self.registry.tools]
        absent = reason is Reason.NOT_OFFERED
        if reason is Reason.NEEDS_PICTURE or (absent and not self.pictures and any(t.needs_image for t in tools)):
            return Plan(before=[fixed.ask_for_picture(self.words, [t.card.expects for t in tools if t.needs_image])])
        if absent:
            return Plan(before=[unavailable(self.route.tools)])
        if reason is Reason.NEEDS_WORDS:
            return Plan(before=[fixed.fixed(fixed.NO_SUBJECT)])
        if "grade" in self.wishes or reason is Reason.UNABLE:
            return Plan(before=fixed.cannot(self.words, fixed.NO_GRADES, fixed.LARGER))
        return None

    def named(self) -> Plan | None:
        """A measurement that the words name by what is measured, where the router chose nothing."""
        tool = next((t for e in Glossary.load().mentions(self.words, misspelt=True) if (t := MEASURED_BY.get(e.term))), "")
        if not tool and self.wishes.any("red", "white", "platelets") and self.wishes.any("count", "types", "high"):
            tool = "blood_cells"
        if not tool and "nuclei" in self.wishes and self.wishes.any("count", "density", "size"):
            tool = "he_nuclei"
        if tool not in self.registry.tools:
            return None
        if not self.pictures:
            entries = terms.explained(terms.specific(Glossary.load().mentions(self.words, misspelt=True))[:2])
            return Plan(before=[*entries, fixed.ask_for_picture(self.words, [self.registry.tools[tool].card.expects])])
        return (
            Plan(calls=self._on_pictures([ToolCall(name=tool)])) if tool in self.offered else Plan(before=[unavailable((tool,))])
        )

    def look(self) -> Plan | None:
        """What a picture shows; without one, a request for it."""
        about = self.wishes.any("malignant", "organ", "stain", "preparation")
        if not about and not asks("sees", self.words):
            return None
        if self.pictures:
            return Plan(calls=self._on_pictures([ToolCall(name=LOOK)])) if LOOK in self.offered else None
        if about or asks("picture", self.words):
            return Plan(before=[fixed.ask_for_picture(self.words, [fixed.ANY_PICTURE])])
        return None

    def rest(self) -> Plan:
        """A near tool, the terms that are named, or nothing."""
        near = [t for t in self.route.alternatives if t in self.offered and t != PAPERS]
        if near and self.pictures:
            return Plan(calls=self._on_pictures([ToolCall(name=near[0])]))
        entries: list[GlossaryEntry] = terms.specific(Glossary.load().mentions(self.words, misspelt=True))[:2]
        if entries and self.route.reason is not Reason.OFF_TOPIC:
            return Plan(before=[*fixed.cannot(self.words, fixed.TERMS), *terms.explained(entries)])
        return Plan(before=fixed.cannot(self.words, fixed.OTHER_FIELD, fixed.LARGER))

    def _search(self) -> ToolCall:
        """The search of the literature, with what the router read for it: how many abstracts, of which years."""
        return next((c for c in self.route.calls if c.name == PAPERS), ToolCall(name=PAPERS))

    def _several(self) -> bool:
        """Whether the words ask for several things."""
        return len([p for p in re.split(rf"[?;]\s+|{_AND}(?=\w+\s)", self.words) if len(p.split()) > 2]) > 1

    def _on_pictures(self, calls: Sequence[ToolCall]) -> list[ToolCall]:
        """The calls, once for each picture that the words mean, where there is a choice."""
        mine = [s for s in self.chat_pictures.entries if s.by == PERSON]
        numbers = [_ORDINALS.get((m[1] or "").casefold(), 0) or int(m[2] or 0) for m in _NUMBERED.finditer(self.words)]
        handles = list(dict.fromkeys(f"image{n}" for n in numbers))
        if not handles and len(mine) > 1 and asks("all", self.words):
            handles = [s.handle for s in mine]
        result: list[ToolCall] = []
        for call in calls:
            tool = self.registry.tools.get(call.name)
            if handles and tool is not None and tool.needs_image and ARGUMENT not in call.arguments:
                result += [replace(call, arguments={**call.arguments, ARGUMENT: h}) for h in handles]
            else:
                result.append(call)
        return result


def literature_call(call: ToolCall, words: str, steps: Sequence[Step], history: Answer | None, *, alone: bool) -> ToolCall | None:
    """The search with its query from the person's words and, where they leave it open, from the conversation; None: no subject.

    `alone`: whether the whole question is for the literature; otherwise the clauses that ask for evidence are.
    """
    clauses = re.split(rf"[.;?!]\s+|{_AND}|,\s+", words)
    asking = [c for c in clauses if asks("evidence", c) or asks("clinical", c)]
    query = words if alone or not asking else " ".join(asking)
    question = read_question(query, context(words if query != words else "", steps, history))
    if question.pmids:
        return replace(call, arguments={"query": " ".join(f"PMID {p}" for p in question.pmids)})
    return replace(call, arguments={**call.arguments, "query": question.text[:500]}) if len(question.text) >= 2 else None


def context(words: str, steps: Sequence[Step], history: Answer | None) -> list[str]:
    """What the conversation is about, in one text at most: the results now, the terms named now, the results and words before."""
    now = [subject(s) for s in reversed(steps)]
    named = [e.term for e in Glossary.load().mentions(words)]
    before = [subject(s) for s in reversed(history.steps)] if history else []
    earlier = [" ".join(c.name for c in concepts_of(history.question) if not c.general)] if history else []
    return [text for text in [*now, *named, *before, *earlier] if text][:1]


def subject(step: Step) -> str:
    """What a step's result is about, in the words of abstracts; empty where that is open."""
    numbers = step.result.numbers
    if step.result.error:
        return ""
    if step.result.name == "lbc_classify" and numbers.get("class") not in (None, "NILM"):
        return str(numbers["class"])
    if step.result.name == PAPERS:
        return str(numbers.get("query", ""))
    return SUBJECTS.get(step.result.name, "")
