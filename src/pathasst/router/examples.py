"""Requests as training sees them: joined to another now and then, with words lost, or after a turn that they do not need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pathasst.router.items import RequestItem
from pathasst.router.labels import choice_vector, tagged
from pathasst.router.network import tool_vectors
from pathasst.router.settings import RouterConfig, RouterTraining

if TYPE_CHECKING:
    from pathasst.router.train import States

SORTED = 2048  # requests sorted by length at once, so that batches pad little


class RouterExample(NamedTuple):
    """One request for the network."""

    tokens: np.ndarray  # float16 [tokens, states]
    tags: np.ndarray  # bool [tokens, spans]
    tools: np.ndarray  # float32 [classes]
    reasons: np.ndarray  # float32 [reasons]; all zero where the reason is not known
    choices: np.ndarray  # float32 [choices]
    before: np.ndarray  # float32 [classes]
    has_arguments: bool  # whether choices and tags are known


class Examples:
    """Draws examples of items; the same generator gives the same ones."""

    def __init__(self, items: Sequence[RequestItem], states: States, config: RouterConfig, settings: RouterTraining) -> None:
        self.items, self.states, self.config, self.settings = items, states, config, settings
        self._epoch: tuple[int, list[np.ndarray]] = (-1, [])
        self.tools = tool_vectors([i.tools for i in items], config.classes)
        self.before = tool_vectors([i.before for i in items], config.classes)
        self.reasons = tool_vectors([(i.reason,) for i in items], config.reasons)

    def plain(self, n: int) -> RouterExample:
        """Item `n` as it is."""
        item, config = self.items[n], self.config
        tokens, places = self.states.of(item.text)
        tags = tagged(item, config.spans, places)
        choices = choice_vector(item, config.choices)
        return RouterExample(tokens, tags, self.tools[n], self.reasons[n], choices, self.before[n], item.arguments is not None)

    def varied(self, n: int, rng: np.random.Generator) -> RouterExample:
        """Item `n` as training sees it this time."""
        example, settings = self.plain(n), self.settings
        longest = self.config.max_tokens // 3
        if rng.random() < settings.joined and len(example.tokens) < longest:
            other = self.plain(int(rng.integers(len(self.items))))
            if len(other.tokens) < longest and not other.before.any():
                example = _joined(example, other)
        if not self.before[n].any() and rng.random() < settings.later:
            classes = self.config.classes
            example = example._replace(before=tool_vectors([[classes[rng.integers(len(classes))]]], classes)[0])
        if rng.random() < 1 / 3:
            rest = rng.random(len(example.tokens)) >= settings.word_dropout
            rest[0] = True
            example = example._replace(tokens=example.tokens[rest], tags=example.tags[rest])
        return example

    def batch(self, step: int) -> np.ndarray:
        """The numbers of the items of a step."""
        epoch, number = divmod(step, -(-len(self.items) // self.settings.batch))
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self._batches(np.random.default_rng((self.settings.seed, epoch))))
        return self._epoch[1][number]

    def _batches(self, rng: np.random.Generator) -> list[np.ndarray]:
        """The numbers of an epoch's items as batches in random order, each of requests of like length."""
        length = np.array([len(i.text) for i in self.items])
        order = rng.permutation(len(self.items))
        parts = np.array_split(order, max(1, len(self.items) // SORTED))
        order = np.concatenate([part[np.argsort(length[part], kind="stable")] for part in parts])
        size = self.settings.batch
        batches = [order[n : n + size] for n in range(0, len(order), size)]
        return [batches[n] for n in rng.permutation(len(batches))]


def _joined(first: RouterExample, second: RouterExample) -> RouterExample:
    """Two requests in one: the marks between them are left out. The reason is known where both call tools, or one does."""
    calls = first.tools.any() or second.tools.any()
    reason = first.reasons if first.tools.any() or not second.tools.any() else second.reasons
    same = calls or np.array_equal(first.reasons, second.reasons)
    return RouterExample(
        tokens=np.concatenate([first.tokens[:-1], second.tokens[1:]]),
        tags=np.concatenate([first.tags[:-1], second.tags[1:]]),
        tools=np.maximum(first.tools, second.tools),
        reasons=reason if same else np.zeros_like(reason),
        choices=np.maximum(first.choices, second.choices),
        before=first.before,
        has_arguments=first.has_arguments and second.has_arguments,
    )
