"""The answer of a brain that cannot be trusted to know, composed from tools, the look, abstracts, the glossary and fixed words.

No language model's words are shown. Knows the plan and the composers; runs tools through the agent's own step.
"""

from __future__ import annotations

from collections.abc import Callable

from pathasst.assistant.answer import Answer, Step
from pathasst.assistant.compose import Wishes, fixed
from pathasst.assistant.compose.cases import similar
from pathasst.assistant.compose.literature import from_abstracts
from pathasst.assistant.compose.measures import measured, of_tool
from pathasst.assistant.compose.seen import look_sentences
from pathasst.assistant.compose.tools import failed
from pathasst.assistant.plan import CASES, LOOK, PAPERS, Plan, literature_call
from pathasst.assistant.statements import Statement, unique
from pathasst.core.records import ToolCall
from pathasst.tools.protocol import Registry


def compose(
    question: str, plan: Plan, run: Callable[[ToolCall], Step], registry: Registry, history: Answer | None
) -> list[Statement]:
    """The statements of an answer. `run`: runs one call and keeps its step."""
    wishes = Wishes.of(question)
    statements = list(plan.before)
    steps = [run(call) for call in plan.calls if call.name != PAPERS]
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
