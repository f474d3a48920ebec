"""Sentences from similar cases: each with its link, what most of them share, whether the look agrees, how good this was."""

from __future__ import annotations

from typing import Any

from pathasst.assistant.statements import Kind, Statement
from pathasst.core.records import ToolResult
from pathasst.tools.similar_cases import BY_COLOUR, RIGHT, RIGHT_MAJORITY


def similar(result: ToolResult) -> list[Statement]:
    """The statements of one search for similar cases; each case is a line of its own."""
    numbers: dict[str, Any] = result.numbers
    cases, shared, look = numbers["cases"], numbers["majority"], numbers["look"]
    statements = [_of(result, "The nearest cases of the atlas:")]
    for case in cases:
        title = (case["caption"] or case["diagnosis"] or case["case"]).rstrip(".")
        where = "; ".join(filter(None, (f"similarity {case['similarity']:.2f}", case["link"])))
        statements.append(_of(result, f"{title} ({where}).", item=True))
    verdicts = [
        f"{votes} of the {numbers['voters']} nearest cases have the {name} {value}." for name, (value, votes) in shared.items()
    ]
    if not shared:
        verdicts.append("The nearest cases agree neither on organ nor on diagnosis.")
    for question, opinion in look.items():
        verb = "agrees" if opinion["agrees"] else "disagrees"
        verdicts.append(f"The look {verb}: its likeliest {question} is {opinion['answer']} ({opinion['probability']:.2f}).")
    verdicts += [f"The tool doubts this: {w[0].lower()}{w[1:]}" for w in result.warnings]
    verdicts.append(
        f"Compare them by eye: of unseen fields the nearest case had the same organ for {100 * RIGHT:.0f} % (by colour alone "
        f"{100 * BY_COLOUR:.0f} %), a majority's organ was right for {100 * RIGHT_MAJORITY:.0f} %, and most diseases are not in "
        "the atlas. This is no diagnosis."
    )
    if licences := dict.fromkeys(case["licence"] for case in cases if case["licence"]):
        verdicts.append(f"Pictures and captions: {' '.join(licences)}.")
    return [*statements, *(_of(result, v) for v in verdicts)]


def _of(result: ToolResult, text: str, *, item: bool = False) -> Statement:
    source = f"{result.name} {result.version}".strip()
    return Statement(text=text, kind=Kind.TOOL, source=source, evidence=result.text, item=item)
