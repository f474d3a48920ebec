"""The training subsets of the paper ("Training of PathAsst"), by the words of its text.

Phase 1 (the FC layer): "the detailed description-based part of the PathInstruct". Phase 2 (FC layer and LLM): "all the data from
books within the PathInstruct dataset, and […] samples from PubMed with single images and captions exceeding the length of 50
tokens", 35 K in all, to which the model-invoking samples are added. Pairs composed from class labels are not in the paper: they
join phase 2 only when asked (`labels=True`, the embedded recipe).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from pathasst.core.records import Conversation

CAPTION_TOKENS = 50
_TOKEN = re.compile(r"\w+|[^\w\s]")

CountTokens = Callable[[str], int]


def count_tokens(text: str) -> int:
    """Words and punctuation marks. The paper does not name its tokenizer; pass the LLM's own to count as it does."""
    return len(_TOKEN.findall(text))


def in_phase1(conversation: Conversation) -> bool:
    """Whether the first phase trains on it."""
    return conversation.kind == "describe"


def in_phase2(conversation: Conversation, *, labels: bool = False, count: CountTokens = count_tokens) -> bool:
    """Whether the second phase trains on it."""
    if conversation.kind == "invoke":
        return True
    kind = conversation.source.kind if conversation.source else ""
    if kind in ("book", "import"):  # what a person brings is chosen already
        return True
    if kind == "labels":
        return labels
    return conversation.panels == 1 and count(conversation.caption) > CAPTION_TOKENS


def phase1(conversations: Iterable[Conversation]) -> Iterator[Conversation]:
    """The conversations of the first phase."""
    return (c for c in conversations if in_phase1(c))


def phase2(
    conversations: Iterable[Conversation], *, labels: bool = False, count: CountTokens = count_tokens
) -> Iterator[Conversation]:
    """The conversations of the second phase."""
    return (c for c in conversations if in_phase2(c, labels=labels, count=count))
