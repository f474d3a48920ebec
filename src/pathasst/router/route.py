"""What a router decides on a request: calls with their arguments, or none and why. Knows no network and no words."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pathasst.core.records import ToolCall


class Reason(StrEnum):
    """Why a request gets calls, or none."""

    CALLS = "calls"  # tools to run are in `Route.calls`
    NEEDS_PICTURE = "needs_picture"  # the tools in `Route.tools` are meant, and there is no picture
    NOT_OFFERED = "not_offered"  # the tools in `Route.tools` are meant, and none of them is on offer
    NEEDS_WORDS = "needs_words"  # a tool is meant, and what it requires is not in the words: a search for nothing in particular
    DEFINITION = "definition"  # what a term, abbreviation or method means
    CAPABILITIES = "capabilities"  # what the assistant is, can do, takes or costs
    RESULT = "result"  # about a result or an answer that is there: repeat, reword, explain, compare
    SMALL_TALK = "small_talk"  # greetings, thanks, yes and no
    UNABLE = "unable"  # pathology that no tool here does: mitoses, grades, stages
    OFF_TOPIC = "off_topic"  # neither pathology nor talk
    UNKNOWN = "unknown"  # no tool, and a router that was not trained to say why


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A decision on one request.

    >>> route = router.route("Ki67 index, and any papers on it?", tools, pictures=1)
    >>> [call.name for call in route.calls], route.reason
    (['ki67_cells', 'papers_search'], <Reason.CALLS: 'calls'>)
    """

    calls: tuple[ToolCall, ...] = ()  # to run, in this order; empty unless the reason is CALLS
    reason: Reason
    confidence: float  # least probability of a call; without calls, that of the reason or of the tool meant
    tools: tuple[str, ...] = ()  # names of the tools meant, also those that cannot run
    alternatives: tuple[str, ...] = ()  # names of tools that were not chosen and are near: ask, or run both
