"""A conversation of a dataset with its loss mask, for a person to look at. Knows datasets and the chat template; prints
nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pathasst import dataset
from pathasst.core import weights
from pathasst.core.errors import BadSettings
from pathasst.core.records import IMAGE, Conversation, ToolSpec
from pathasst.mllm.chat import painted, render
from pathasst.mllm.chat_template import template_of


@dataclass(frozen=True, slots=True)
class MaskedText:
    """What `show-mask` prints: runs of text, each supervised or not."""

    conversation_id: str
    tokens: int
    supervised: int
    runs: list[tuple[str, bool]]


def masked(
    folder: Path | str,
    specs: Sequence[ToolSpec],
    *,
    index: int = 0,
    kind: str = "",
    llm: str = "smollm2-135m",
    template: str = "chatml",
    image_tokens: int = 49,
) -> MaskedText:
    """Conversation number `index` (of a kind). Raises BadSettings when there are not so many."""
    rows = (c for c in dataset.read(folder, Conversation) if not kind or c.kind == kind)
    conversation = next(islice(rows, index, None), None)
    if conversation is None:
        raise BadSettings(f"{folder} has no conversation number {index}{f' of the kind {kind}' if kind else ''}.")
    tokenizer = tokenizer_of(llm)
    offered = [s for s in specs if s.name in conversation.tools]
    rendered = render(
        conversation.turns,
        tokenizer,
        template_of(template, tokenizer),
        tools=offered,
        images=len(conversation.images),
        image_tokens=image_tokens,
        name=conversation.conversation_id,
    )
    return MaskedText(conversation.conversation_id, len(rendered.ids), sum(rendered.mask), painted(rendered, tokenizer))


def tokenizer_of(llm: str) -> Any:
    """The tokenizer of a language model, with the picture's placeholder."""
    from transformers import AutoTokenizer

    from pathasst.mllm import gguf_llm

    folder = weights.path(llm)
    ggufs = sorted(folder.glob("*.gguf"))
    if ggufs and gguf_llm.readable(ggufs[0]):
        tokenizer = gguf_llm.tokenizer(ggufs[0])
    else:
        tokenizer = AutoTokenizer.from_pretrained(folder, **({"gguf_file": ggufs[0].name} if ggufs else {}))
    tokenizer.add_special_tokens({"extra_special_tokens": [IMAGE]})
    return tokenizer
