"""What a request is to be answered with in training: the tools, the choices among their arguments, and where their values stand.

Knows items; which arguments are choices and which stand in the words is read off the training data alone.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from pathasst.router.items import RequestItem
from pathasst.router.slot_filling import SCALE, TRUE
from pathasst.router.slot_values import Span, numbers

MOST_CHOICES = 16  # different texts of an argument that is a choice, and each met OFTEN times in the mean; else they are looked
OFTEN = 4  # for in the words
PICTURE = "image"  # the argument that names a picture, of whatever tool


def learnable(items: Sequence[RequestItem]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Choices (`tool.argument=value`) and spans (`tool.argument`) of the arguments in these items. Places and scales are neither:
    patterns read them."""
    values: dict[str, Counter[Any]] = defaultdict(Counter)
    for item in items:
        for name, value in item.arguments or ():
            values[name][value] += 1
        for name in {s[0] for s in item.spans or ()} - {a[0] for a in item.arguments or ()}:
            values[name][""] += 1
    spelled = {s[0] for i in items for s in i.spans or ()}
    choices, spans = [], []
    for name, counts in sorted(values.items()):
        kinds = {type(v) for v in counts}
        if kinds == {bool}:
            choices.append(_choice(name, True))
        elif kinds == {str} and len(counts) <= min(MOST_CHOICES, counts.total() / OFTEN) and "" not in counts:
            choices += [_choice(name, v) for v in sorted(counts)]
        elif kinds <= {str, int, float} and (name in spelled or not name.endswith(f".{SCALE}")):
            spans.append(name)
    pictures = sorted({i.picture for i in items if i.picture})
    return (*choices, *(_choice(PICTURE, n) for n in pictures)), tuple(n for n in spans if not n.endswith(f".{SCALE}"))


def choice_vector(item: RequestItem, choices: Sequence[str]) -> np.ndarray:
    """float32 [choices]: 1 for each that the item's calls have."""
    named = {_choice(name, value) for name, value in item.arguments or ()}
    if item.picture:
        named.add(_choice(PICTURE, item.picture))
    return np.array([c in named for c in choices], np.float32)


def tagged(item: RequestItem, spans: Sequence[str], places: Sequence[Span]) -> np.ndarray:
    """bool [tokens, spans]: which tokens, standing at `places`, hold a value of each argument."""
    tags = np.zeros((len(places), len(spans)), bool)
    places_of_values = item.spans
    if places_of_values is None:
        located_values = [(name, located(value, item.text)) for name, value in item.arguments or () if name in spans]
        places_of_values = tuple((name, *where) for name, where in located_values if where)
    for name, start, end in places_of_values:
        if name in spans:
            tags[[a < end and start < b for a, b in places], spans.index(name)] = True
    return tags


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
