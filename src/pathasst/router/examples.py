"""Requests as training sees them: joined to another now and then, with words lost, or after a turn that they do not need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pathasst.router.items import Item
from pathasst.router.labels import chosen, tagged
from pathasst.router.network import called
from pathasst.router.settings import RouterConfig, TrainSettings

if TYPE_CHECKING:
    from pathasst.router.train import States

SORTED = 2048  # requests sorted by length at once, so that batches pad little


class Example(NamedTuple):
    """One request for the network."""

    tokens: np.ndarray  # float16 [tokens, states]
    tags: np.ndarray  # bool [tokens, spans]
    tools: np.ndarray  # float32 [classes]
    choices: np.ndarray  # float32 [choices]
    before: np.ndarray  # float32 [classes]
    told: bool  # whether choices and tags are known


class Examples:
    """Draws examples of items; the same generator gives the same ones."""

    def __init__(
        self, items: Sequence[Item], states: States, config: RouterConfig, settings: TrainSettings, draw: np.random.Generator
    ) -> None:
        self.items, self.states, self.config, self.settings, self.draw = items, states, config, settings, draw
        self.tools = called([i.tools for i in items], config.classes)
        self.before = called([i.before for i in items], config.classes)

    def plain(self, n: int) -> Example:
        """Item `n` as it is."""
        item, config = self.items[n], self.config
        tags = tagged(item, config.spans, self.states.spans(item.text))
        choices = chosen(item, config.choices)
        return Example(self.states(item.text), tags, self.tools[n], choices, self.before[n], item.said is not None)

    def drawn(self, n: int) -> Example:
        """Item `n` as training sees it this time."""
        example, draw, settings = self.plain(n), self.draw, self.settings
        room = self.config.max_tokens // 3
        if draw.random() < settings.joined and len(example.tokens) < room:
            other = self.plain(int(draw.integers(len(self.items))))
            if len(other.tokens) < room and not other.before.any():
                example = _joined(example, other)
        if not self.before[n].any() and draw.random() < settings.later:
            classes = self.config.classes
            example = example._replace(before=called([[classes[draw.integers(len(classes))]]], classes)[0])
        if draw.random() < 1 / 3:
            kept = draw.random(len(example.tokens)) >= settings.lost
            kept[0] = True
            example = example._replace(tokens=example.tokens[kept], tags=example.tags[kept])
        return example

    def batches(self) -> list[np.ndarray]:
        """The numbers of an epoch's items as batches in random order, each of requests of like length."""
        length = np.array([len(i.text) for i in self.items])
        order = self.draw.permutation(len(self.items))
        parts = np.array_split(order, max(1, len(self.items) // SORTED))
        order = np.concatenate([part[np.argsort(length[part], kind="stable")] for part in parts])
        size = self.settings.batch
        batches = [order[n : n + size] for n in range(0, len(order), size)]
        return [batches[n] for n in self.draw.permutation(len(batches))]


def _joined(first: Example, second: Example) -> Example:
    """Two requests in one: the marks between them are left out."""
    return Example(
        tokens=np.concatenate([first.tokens[:-1], second.tokens[1:]]),
        tags=np.concatenate([first.tags[:-1], second.tags[1:]]),
        tools=np.maximum(first.tools, second.tools),
        choices=np.maximum(first.choices, second.choices),
        before=first.before,
        told=first.told and second.told,
    )
