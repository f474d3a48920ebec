"""What is said to an LLM and what comes back. Knows no server."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from pathasst.core.errors import BadInput

_FENCE = re.compile(r"```(?:json)?\s*(.*?)```", re.DOTALL)


@dataclass(frozen=True, slots=True)
class LLMMessage:
    """One message: role system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. `cost` is what it took when it was first made; a cached one costs nothing now."""

    text: str
    model: str = ""
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0
    finish: str = "stop"  # stop | length | content_filter …
    cached: bool = False
    tries: int = 1


def as_messages(prompt: str | list[LLMMessage], system: str = "") -> list[LLMMessage]:
    """A prompt as messages; a text is the user's."""
    messages = [LLMMessage("user", prompt)] if isinstance(prompt, str) else list(prompt)
    return [LLMMessage("system", system), *messages] if system else messages


def json_in(text: str) -> Any:
    """The JSON value in an answer: the whole of it, what stands in a code fence, or the first object or list.

    Raises BadInput when there is none.
    """
    for candidate in (text.strip(), *(m.strip() for m in _FENCE.findall(text))):
        try:
            return json.loads(candidate)
        except json.JSONDecodeError:
            continue
    decoder = json.JSONDecoder()
    for start in (i for i, c in enumerate(text) if c in "{["):
        try:
            return decoder.raw_decode(text, start)[0]
        except json.JSONDecodeError:
            continue
    raise BadInput(f"the answer holds no JSON: {text[:120]!r}")


def rough_tokens(text: str) -> int:
    """A count of tokens for servers that report none: one per four characters, as OpenAI's own rule of thumb."""
    return max(1, len(text) // 4)
