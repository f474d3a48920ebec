"""How a client wants an answer written: what is passed to the brain, and where its text is cut."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from re import finditer

from pathasst.assistant.brains.settings import ReplyOptions
from pathasst.serve.api.errors import ApiError
from pathasst.serve.api.schemas import ChatRequest, NamedTool
from pathasst.serve.service import Service

OURS = "pathasst"
"""The name by which a client asks for whatever brain answers here."""


def check_model(service: Service, name: str) -> None:
    """Raises ApiError 404 for a model that does not answer here."""
    if name not in (OURS, service.brain_name):
        words = f"the model {name[:100]!r} does not exist here; GET /v1/models lists those that do."
        raise ApiError(words, 404, "model_not_found", "model")


def options_of(body: ChatRequest) -> ReplyOptions:
    """What the brain is told for a reply that goes to the client as it is. A choice of tool holds until its result is there."""
    choice, answered = body.tool_choice, body.messages[-1].role == "tool"
    named = choice.function.name if isinstance(choice, NamedTool) else "" if choice == "required" else None
    return ReplyOptions(
        max_tokens=body.most_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
        seed=body.seed,
        stop=body.stops,
        tool=None if answered else named,
    )


def limited(text: str, stops: Sequence[str], most: int | None, count: Callable[[str], int]) -> tuple[str, str]:
    """The text up to the first of `stops` and with at most `most` tokens, and why it ends: "stop" or "length"."""
    ends = [at for stop in stops if (at := text.find(stop)) >= 0]
    text = text[: min(ends)] if ends else text
    if most is None or count(text) <= most:
        return text, "stop"
    words = [m.end() for m in finditer(r"\S+", text)]
    fits = bisect_right(words, most, key=lambda end: count(text[:end]))
    return text[: words[fits - 1]] if fits else "", "length"
