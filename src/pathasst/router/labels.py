"""What a request is to be answered with in training: the tools, the choices among their arguments, and where their values stand.

Knows items; which arguments are choices and which stand in the words is read off the training data alone.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from pathasst.router.items import Item
from pathasst.router.slot_filling import SCALE, TRUE
from pathasst.router.slot_values import Span, numbers

MOST_CHOICES = 16  # different texts of an argument that is a choice, and each said OFTEN times in the mean; else they are looked
OFTEN = 4  # for in the words


def learnable(items: Sequence[Item]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Choices (`tool.argument=value`) and spans (`tool.argument`) of the arguments in these items. Places and scales are neither:
    patterns read them."""
    values: dict[str, Counter[Any]] = defaultdict(Counter)
    for item in items:
        for name, value in item.said or ():
            values[name][value] += 1
    choices, spans = [], []
    for name, seen in sorted(values.items()):
        kinds = {type(v) for v in seen}
        if kinds == {bool}:
            choices.append(_choice(name, True))
        elif kinds == {str} and len(seen) <= min(MOST_CHOICES, seen.total() / OFTEN):
            choices += [_choice(name, v) for v in sorted(seen)]
        elif kinds <= {str, int, float} and not name.endswith(f".{SCALE}"):
            spans.append(name)
    return tuple(choices), tuple(spans)


def chosen(item: Item, choices: Sequence[str]) -> np.ndarray:
    """float32 [choices]: 1 for each that the item's calls have."""
    said = {_choice(name, value) for name, value in item.said or ()}
    return np.array([c in said for c in choices], np.float32)


def tagged(item: Item, spans: Sequence[str], places: Sequence[Span]) -> np.ndarray:
    """bool [tokens, spans]: which tokens, standing at `places`, hold a value of each argument."""
    found = np.zeros((len(places), len(spans)), bool)
    for name, value in item.said or ():
        if name in spans and (where := located(value, item.text)):
            found[[a < where[1] and where[0] < b for a, b in places], spans.index(name)] = True
    return found


def located(value: Any, text: str) -> Span | None:
    """Where the words say a value: a number that equals it, or the shortest stretch that holds a text's words in their order."""
    if not isinstance(value, str):
        return next((span for number, span in numbers(text) if number == value), None)
    words = [re.escape(w) for w in value.split()]
    best: Span | None = None
    for start in re.finditer(rf"(?<!\w){words[0]}(?!\w)", text, re.IGNORECASE) if words else ():
        end = start.end()
        for word in words[1:]:
            match = re.compile(rf"(?<!\w){word}(?!\w)", re.IGNORECASE).search(text, end)
            if match is None:
                return best
            end = match.end()
        if best is None or end - start.start() < best[1] - best[0]:
            best = (start.start(), end)
    return best


def _choice(name: str, value: Any) -> str:
    return f"{name}={TRUE if value is True else value}"
