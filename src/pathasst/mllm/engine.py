"""What runs a PathAsst: the protocol that the transformers engine and llama.cpp satisfy. Knows records and templates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from pathasst.core.records import ToolSpec, Turn
from pathasst.mllm.chat_template import ChatTemplate

MAX_LENGTH = 2048  # tokens of a prompt, where the checkpoint does not say what it was trained on
Request = tuple[Sequence[Turn], Sequence[bytes], Sequence[ToolSpec]]
"""The conversation, its encoded pictures in the order of their marks, the tools on offer."""


class Engine(Protocol):
    """Greedy text, from a conversation with pictures. Safe to call from several threads; they wait for each other."""

    template: ChatTemplate

    def generate(self, request: Request, *, max_new_tokens: int, calls: bool = True, call: str = "") -> Iterator[str]:
        """All that is written so far, after each token, with the stop if the engine writes it out.

        A call that is begun becomes a call of an offered tool that fits its schema. Without `calls` none is begun. `call`: the
        name of an offered tool whose call is written and nothing else; the text then begins with `tool_text.call_head`.
        Raises BadInput when marks and pictures differ in number, a picture cannot be read or the prompt is too long.
        """
        ...

    def generate_many(self, requests: Sequence[Request], *, max_new_tokens: int, batch: int, calls: bool = True) -> list[str]:
        """The whole text of each of several requests. Raises what `generate` raises."""
        ...

    def prompt_ids(self, turns: Sequence[Turn], images: int, tools: Sequence[ToolSpec]) -> list[int]:
        """The ids that a reply begins from, a picture as its patches. Raises BadInput when too many, or marks and pictures
        differ."""
        ...

    def tokenize(self, text: str) -> list[int]:
        """Ids of plain words."""
        ...
