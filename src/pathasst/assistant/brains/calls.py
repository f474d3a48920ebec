"""The calls of a tool that somebody chose: arguments from the person's words, from the turn before, and last from the model.

A model of 135 million parameters copies numbers and places badly, so what the words fix is read from them (`router.arguments`);
the model writes only what is required and cannot be read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from pathasst.core.records import ToolCall, ToolSpec, Turn
from pathasst.router.items import plain, tools_before
from pathasst.router.slot_filling import read, unread

if TYPE_CHECKING:
    from pathasst.router import Router


def calls_of(tool: ToolSpec, turns: Sequence[Turn], router: Router, write: Callable[[str], ToolCall]) -> list[ToolCall]:
    """The calls that the last turn, the person's, asks for. `write(name)`: the model's own call of the tool."""
    words = " ".join(plain(turns[-1].content).split())  # single blanks: what reads values looks at each only so often
    write = cache(write)  # the model writes the same for each of several calls
    reading = router.reading(words, tool.name)
    again = tool.name in tools_before(turns[:-1]) and tool.name not in router.choose(words)
    calls = []
    for arguments in read(tool, words, reading):
        if again:  # words that mean nothing without the turn before take its arguments too
            arguments = _again(_earlier(turns, tool.name), arguments)
        if missing := unread(tool, arguments, reading):
            filled = write(tool.name).arguments
            arguments |= {n: filled[n] for n in missing if n in filled}
        calls.append(ToolCall(name=tool.name, arguments=arguments))
    return calls


def _earlier(turns: Sequence[Turn], name: str) -> Mapping[str, Any]:
    """The arguments of the latest call of a tool."""
    return next((c.arguments for t in reversed(turns) for c in t.tool_calls if c.name == name), {})


def _again(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Earlier arguments with what is said now in their place; a place said now replaces all earlier places."""
    has_place = any(isinstance(v, list) for v in now.values())
    return {n: v for n, v in earlier.items() if not (has_place and isinstance(v, list))} | dict(now)
