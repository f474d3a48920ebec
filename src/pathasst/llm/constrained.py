"""Constrained decoding in this process: which tokens a grammar allows next (llguidance, MIT). Knows tokenizers and grammars.

llama.cpp's own server takes the same grammars (it is built with the same library), so both engines write under one text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


class Constraints:
    """Grammars over one tokenizer. Making it costs about a second; make it once.

    `vocabulary`: length of a row of logits; `stops`: ids that may end the text wherever the grammar is complete.
    """

    def __init__(self, tokenizer: Any, vocabulary: int, stops: Sequence[int]) -> None:
        from llguidance.hf import from_tokenizer

        self._tokenizer = from_tokenizer(tokenizer, n_vocab=vocabulary, eos_token=list(stops))
        self._words = (vocabulary + 31) // 32

    def start(self, grammar: str) -> Constraint:
        """A text that is to follow `grammar` (Lark, as llguidance writes it). Raises ValueError for an unreadable one."""
        from llguidance import LLMatcher

        matcher = LLMatcher(self._tokenizer, grammar)
        if error := matcher.get_error():
            raise ValueError(error)
        return Constraint(matcher, self._words)


class Constraint:
    """One text under way."""

    def __init__(self, matcher: Any, words: int) -> None:
        self._matcher, self._words = matcher, words

    def allow(self, logits: torch.Tensor) -> None:
        """Bar the tokens of `logits` (vocabulary) that the grammar does not allow next, in place.

        The likeliest token is tried first: as long as it fits, which it nearly always does, the others need no judging.
        """
        import torch

        best = int(logits.argmax())
        if self._matcher.validate_tokens([best]) == 1:
            logits[:] = float("-inf")
            logits[best] = 0.0
            return
        mask = torch.zeros(1, self._words, dtype=torch.int32)
        self._matcher.unsafe_compute_mask_ptr(mask.data_ptr(), mask.numel() * 4)
        bits = (mask[0, :, None] >> torch.arange(32, dtype=torch.int32)) & 1
        logits.masked_fill_(bits.flatten()[: len(logits)].to(logits.device) == 0, float("-inf"))

    def accept(self, token: int) -> None:
        """Go on by a token that was allowed."""
        self._matcher.consume_token(token)

    @property
    def finished(self) -> bool:
        """Whether nothing may follow."""
        return bool(self._matcher.is_stopped())
