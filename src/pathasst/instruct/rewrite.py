"""Descriptions and conversations written by a language model, and held to the caption like all others (paper, step 4).

Knows pairs, prompts and `pathasst.llm`. What the model writes is checked sentence by sentence and exchange by exchange; what is
not grounded is left out and counted, and where nothing is left the wordings of this room take its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

from pydantic import BaseModel, Field

from pathasst.core.errors import BadInput
from pathasst.core.records import IMAGE, Conversation, Mark, Pair, Turn
from pathasst.core.text import sentences
from pathasst.dataset import Dropped
from pathasst.instruct.check import faults
from pathasst.instruct.describe import conversation_of, describe
from pathasst.instruct.lexicon import lexicon
from pathasst.instruct.wordings import Wordings
from pathasst.llm import Client, LLMSettings, connect

LEAST_KEPT = 0.5  # a description that loses more of its sentences than this is not used


class Description(BaseModel):
    """What the model answers for a description."""

    description: str = Field(min_length=20, max_length=3000)


class QuestionAnswer(BaseModel):
    """One question and its answer."""

    question: str = Field(min_length=4, max_length=400)
    answer: str = Field(min_length=2, max_length=800)


class Dialogue(BaseModel):
    """What the model answers for a conversation."""

    exchanges: list[QuestionAnswer] = Field(min_length=1, max_length=8)


_clients: dict[str, Client] = {}


def client_of(node: dict[str, Any], folder: Path) -> Client:
    """The client of this process for a recipe's `llm`, made on first use; its answers and ledger lie in `folder`."""
    key = f"{folder}:{sorted(node.items(), key=str)}"
    if key not in _clients:
        _clients[key] = connect(LLMSettings.of(node), folder)
    return _clients[key]


class Rewriter:
    """Asks a model about pairs, several at a time."""

    def __init__(self, client: Client, wordings: Wordings, seed: int) -> None:
        self.client, self.wordings, self.seed = client, wordings, seed
        self.by = f"llm:{client.settings.model}"

    def descriptions(self, pairs: Sequence[Pair]) -> Iterator[Conversation | Dropped]:
        """A description of each pair, from the model where it is grounded, else from the caption.

        Raises Unreachable and OverBudget; a run that is started again does not ask again what was answered.
        """
        answers = self.client.many([p.caption for p in pairs], Description, system=self.wordings.prompt("describe"))
        for pair, answer in zip(pairs, answers, strict=True):
            text = ""
            if isinstance(answer, BadInput):
                yield Dropped(f"{pair.pair_id}#describe", "llm-answer", str(answer))
            else:
                text, drops = self._grounded(pair, answer.description)
                yield from drops
            rng = Random(f"{self.seed}:{pair.pair_id}:describe:llm")
            try:
                yield describe(pair, rng, self.wordings, text=text, by=self.by if text else "template")
            except BadInput as error:
                yield Dropped(f"{pair.pair_id}#describe", str(error), pair.caption)

    def dialogues(self, pairs: Sequence[Pair]) -> Iterator[Conversation | Dropped | Pair]:
        """A conversation about each pair; a pair for which the model gave nothing grounded comes back as it is."""
        answers = self.client.many([p.caption for p in pairs], Dialogue, system=self.wordings.prompt("converse"))
        for pair, answer in zip(pairs, answers, strict=True):
            if isinstance(answer, BadInput):
                yield Dropped(f"{pair.pair_id}#converse", "llm-answer", str(answer))
                yield pair
                continue
            grounded, drops = self._grounded_exchanges(pair, answer.exchanges)
            yield from drops
            if grounded:
                yield conversation_of(pair, "converse", _turns(grounded), Mark(step="instruct", by=self.by))
            else:
                yield pair

    def _grounded(self, pair: Pair, text: str) -> tuple[str, list[Dropped]]:
        """The grounded sentences of a description; empty when too few are left."""
        words, sentences_ = lexicon(self.wordings), sentences(text)
        grounded, drops = [], []
        for sentence in sentences_:
            problems = faults(sentence, pair.caption, words)
            if problems:
                drops.append(Dropped(f"{pair.pair_id}#describe", f"ungrounded-{problems[0]}", sentence))
            else:
                grounded.append(sentence)
        enough = grounded and len(grounded) >= LEAST_KEPT * len(sentences_)
        return (" ".join(grounded) if enough else ""), drops

    def _grounded_exchanges(self, pair: Pair, exchanges: Sequence[QuestionAnswer]) -> tuple[list[QuestionAnswer], list[Dropped]]:
        """The exchanges whose answer is grounded and whose question brings in nothing but what a "no" denies."""
        words = lexicon(self.wordings)
        grounded, drops = [], []
        for one in exchanges:
            # what a question names may be repeated in its "no"
            named = tuple(words.find(one.question).all()) if one.answer.lower().startswith("no") else ()
            problems = faults(one.answer, pair.caption, words, allow=named)
            problems += faults(one.question, pair.caption, words, allow=named, max_new=1.0)
            if problems:
                drops.append(Dropped(f"{pair.pair_id}#converse", f"ungrounded-{problems[0]}", f"{one.question} → {one.answer}"))
            else:
                grounded.append(one)
        return grounded, drops


def _turns(exchanges: Sequence[QuestionAnswer]) -> list[Turn]:
    turns: list[Turn] = []
    for i, one in enumerate(exchanges):
        turns.append(Turn(role="user", content=("" if i else f"{IMAGE}\n") + one.question.strip()))
        turns.append(Turn(role="assistant", content=one.answer.strip()))
    return turns
