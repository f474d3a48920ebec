"""Conversations → requests with the tools they ask for. Knows records alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pathasst.core.records import IMAGE, Conversation, ToolCall, Turn

REFUSED = ("not_offered", "wrong_picture", "no_picture")  # kinds of tool conversations that ask for a tool and do not get it
UNSTATED = (*REFUSED, "repeat")  # kinds whose calls' arguments are not there, or not in the words

REASONS = {"unable": "unable", "off_topic": "off_topic"}  # kinds of conversations that say why no tool is called


@dataclass(frozen=True, slots=True)
class RequestItem:
    """One turn of the person."""

    text: str
    tools: tuple[str, ...]  # names of the tools it asks for, whether or not they were on offer
    split: str
    kind: str  # single, several, plain … as `instruct` marks it; `later` from the second turn on
    group: str  # the wording it was made of
    before: tuple[str, ...] = ()  # names of the tools that the turn before called
    arguments: tuple[tuple[str, Any], ...] | None = ()  # (`tool.argument`, value) of every call; None: not to be learned from
    spans: tuple[tuple[str, int, int], ...] | None = None  # (`tool.argument`, where its value stands); None: to be looked for
    reason: str = ""  # `router.Reason`; empty: not known
    picture: int = 0  # number of the picture that is named; 0: none
    language: str = "en"
    hand: str = ""  # way of speaking, of a request of the wordings of this room


def items_of(conversations: Iterable[Conversation]) -> Iterator[RequestItem]:
    """Every turn of the person in tool conversations (kind `invoke`), with the tools that the next turn calls.

    Where `instruct` marked a request as refused, the tool it was refused counts as asked for.
    """
    for conversation in conversations:
        if conversation.kind != "invoke":
            continue
        marks = [m for m in conversation.trail if m.step == "invoke"]
        place = 0
        for at, (turn, reply) in enumerate(zip(conversation.turns, conversation.turns[1:], strict=False)):
            if turn.role != "user":
                continue
            mark = marks[min(place, len(marks) - 1)] if marks else None
            kind = mark.by if mark else ""
            names = {c.name for c in reply.tool_calls} or ({conversation.tool} - {""} if kind in REFUSED else set())
            before = tuple(tools_before(conversation.turns[:at]))
            arguments = None if kind in UNSTATED else tuple(_arguments(reply.tool_calls))
            text, group = plain(turn.content), (mark.note if mark else "") or turn.content
            reason = "calls" if names else REASONS.get(kind, "")
            yield RequestItem(text, tuple(sorted(names)), conversation.split, kind, group, before, arguments, reason=reason)
            place += 1


def _arguments(calls: Iterable[ToolCall]) -> Iterator[tuple[str, Any]]:
    """Every argument of every call, lists as tuples."""
    for call in calls:
        for name, value in call.arguments.items():
            yield f"{call.name}.{name}", _frozen(value)


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def tools_before(turns: Sequence[Turn]) -> list[str]:
    """The tools that the latest answer among `turns` called, each once, in their order."""
    names: list[str] = []
    for turn in reversed(turns):
        if turn.role == "user":
            break
        names = [c.name for c in turn.tool_calls] + names
    return list(dict.fromkeys(names))


def plain(text: str) -> str:
    """The person's words without picture marks."""
    return text.replace(IMAGE, " ").strip()
