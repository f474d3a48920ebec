"""Conversations → requests with the tools they ask for. Knows records alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pathasst.records import Conversation

REFUSED = ("not_offered", "wrong_picture", "no_picture")  # kinds of tool conversations that ask for a tool and do not get it
IMAGE = "<image>"


@dataclass(frozen=True, slots=True)
class Item:
    """One turn of the person."""

    text: str
    tools: tuple[str, ...]  # names of the tools it asks for, whether or not they were on offer
    split: str
    kind: str  # single, several, plain … as `instruct` marks it; `later` from the second turn on
    group: str  # the wording it was made of


def items_of(conversations: Iterable[Conversation]) -> Iterator[Item]:
    """Every turn of the person in tool conversations (kind `invoke`), with the tools that the next turn calls.

    Where `instruct` marked a request as refused, the tool it was refused counts as asked for.
    """
    for conversation in conversations:
        if conversation.kind != "invoke":
            continue
        marks = [m for m in conversation.trail if m.step == "invoke"]
        first = marks[0].by if marks else ""
        for place, (turn, reply) in enumerate(zip(conversation.turns, conversation.turns[1:], strict=False)):
            if turn.role != "user":
                continue
            kind, _, meant = first.partition(":") if not place else ("later", "", "")
            names = {c.name for c in reply.tool_calls} or ({meant} if kind in REFUSED and meant else set())
            group = marks[0].note if marks and not place else turn.content
            yield Item(plain(turn.content), tuple(sorted(names)), conversation.split, kind, group)


def plain(text: str) -> str:
    """The person's words without picture marks."""
    return text.replace(IMAGE, " ").strip()
