"""The answer of a brain that cannot be trusted to know, composed from tools, the look, abstracts, the glossary and fixed words.

No language model's words are shown. Knows the plan and the composers; runs tools through the agent's own step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pathasst.assistant.answer import Answer, Step
from pathasst.assistant.compose import Wishes, fixed
from pathasst.assistant.compose.cases import similar
from pathasst.assistant.compose.literature import from_abstracts
from pathasst.assistant.compose.measures import measured, of_tool
from pathasst.assistant.compose.seen import look_sentences
from pathasst.assistant.compose.tools import failed
from pathasst.assistant.images import ARGUMENT
from pathasst.assistant.plan import CASES, LOOK, PAPERS, Plan, literature_call
from pathasst.assistant.statements import Statement, unique
from pathasst.core.records import ToolCall
from pathasst.tools.protocol import Registry

CLASSIFIER, CERVICAL = "lbc_classify", "cervical cytology"


def compose(
    question: str, plan: Plan, run: Callable[[ToolCall], Step], registry: Registry, history: Answer | None
) -> list[Statement]:
    """The statements of an answer. `run`: runs one call and keeps its step."""
    wishes = Wishes.of(question)
    statements = list(plan.before)
    steps = [run(call) for call in plan.calls if call.name != PAPERS]
    steps += [run(call) for step in steps if (call := classified(step, wishes, plan, registry)) is not None]
    for step in [*plan.again, *steps]:
        statements += of_step(step, question, wishes, registry)
    for call in plan.calls:
        if call.name == PAPERS:
            search = literature_call(call, question, steps, history, alone=not steps and not plan.before)
            if search is None:
                statements.append(fixed.fixed(fixed.NO_SUBJECT))
            else:
                statements += of_step(run(search), question, wishes, registry)
    statements += plan.after
    if statements and (note := fixed.ENGLISH.get(fixed.language(question))):
        statements.append(fixed.fixed(note))
    return unique(statements) or fixed.cannot(question)


def classified(step: Step, wishes: Wishes, plan: Plan, registry: Registry) -> ToolCall | None:
    """The classifier's call after a look that saw cervical cytology, where a lesion is asked about: its class says more."""
    seen = step.result.numbers.get("preparation", {})
    asked = wishes.any("malignant", "lesion", "high") and seen.get("answer") == CERVICAL and not step.result.error
    if not asked or step.result.name != LOOK or CLASSIFIER not in {s.name for s in registry.offered()}:
        return None
    done = {c.name for c in plan.calls}
    return None if CLASSIFIER in done else replace(step.call, name=CLASSIFIER, arguments=pictured(step.call))


def pictured(call: ToolCall) -> dict[str, Any]:
    """Which picture a call is about, where it says so."""
    return {n: v for n, v in call.arguments.items() if n == ARGUMENT}


def of_step(step: Step, question: str, wishes: Wishes, registry: Registry) -> list[Statement]:
    """What one call gave, as statements."""
    result = step.result
    if result.error:
        return [failed(result)]
    if result.name == PAPERS:
        return from_abstracts(question, result)
    if result.name == LOOK:
        return [of_tool(result, sentence) for sentence in look_sentences(result, wishes)]
    if result.name == CASES:
        return similar(result)
    tool = registry.tools.get(result.name)
    return measured(step, wishes, tool.card if tool else None)
