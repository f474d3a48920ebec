"""Samples packed into rows: no padding, no attention between samples, and what several share computed once.

A row is a tree: system turns with their list of tools, under each the pictures that are asked about, under each the
conversations about that picture. Every conversation sees its own system turn, picture and itself, at the positions it would
have alone, so its loss is the one of the plain way (tested); the list of tools and the picture, often longer than the
conversation, are paid once a row. Knows arrays; knows no model and no training loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from pathasst.mllm.tree_attention import TreePiece

OPEN_ROWS = 48  # how many rows wait for a fitting sample


class PicturePlace(NamedTuple):
    """Where a picture lies in the table of vision features."""

    first: int  # its first square, which is the whole picture
    squares: int  # how many follow each other: one, or the whole and its tiles
    height: int  # of the picture, px
    width: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One conversation ready for training."""

    name: str
    ids: np.ndarray  # int32, n
    mask: np.ndarray  # bool, n: which ids the loss counts
    prefix: int  # length of the system turn
    images: tuple[int, ...] = ()  # numbers in the table of vision features, in order of their placeholders
    kind: str = ""
    paper: bool = True  # whether it belongs to the paper's subset for phase 2 (`instruct.subsets`)
    opening: int = 0  # where the picture that the first question begins with ends; 0: it begins with none

    @property
    def supervised(self) -> int:
        """How many tokens the loss counts."""
        return int(self.mask.sum())

    def shared(self, share: bool) -> list[tuple[bytes, int]]:
        """What others may have in common with it, from the outside in: a key and where that part ends."""
        if not share:
            return []
        parts = [(self.ids[: self.prefix].tobytes(), self.prefix)]
        if self.opening:
            parts.append((parts[0][0] + b"%d" % self.images[0], self.opening))
        return parts


@dataclass(frozen=True, slots=True)
class Row:
    """One packed row of n tokens."""

    ids: np.ndarray  # int64, n
    positions: np.ndarray  # int64, n: position inside the conversation
    targets: np.ndarray  # bool, n: the loss counts the prediction of this token
    pieces: list[TreePiece] = field(default_factory=list)  # which run of tokens sees which
    images: list[int] = field(default_factory=list)  # rows of the feature table, in order of the placeholders


def plan(samples: Sequence[Sample], row_tokens: int, seed: int, *, share: bool = True) -> list[list[int]]:
    """Indices of the samples of each row, in a random order that depends on `seed` alone; a row holds at most `row_tokens` tokens
    (one longer sample alone may exceed it). `share` off: every sample carries its own system turn and picture."""
    waiting: list[tuple[list[int], set[bytes], int]] = []  # samples, parts they share, tokens
    rows: list[list[int]] = []
    common = _common(samples, row_tokens, share)
    for n in _order(samples, seed, share):
        parts, length = samples[n].shared(share), len(samples[n].ids)
        best, cost = -1, 0
        for place, (_, held_parts, used) in enumerate(waiting):
            if parts and parts[0][0] in common and parts[0][0] not in held_parts:
                continue  # what many share is not paid for in a row of others
            extra = length - max((end for key, end in parts if key in held_parts), default=0)
            if used + extra <= row_tokens and (best < 0 or extra < cost):
                best, cost = place, extra
        keys = {key for key, _ in parts}
        if best < 0:
            waiting.append(([n], keys, length))
            if len(waiting) > OPEN_ROWS:
                rows.append(waiting.pop(int(np.argmax([w[2] for w in waiting])))[0])
        else:
            members, held_parts, used = waiting[best]
            members.append(n)
            waiting[best] = (members, held_parts | keys, used + cost)
    rows += [w[0] for w in waiting]
    mixed = np.random.default_rng((seed, 1)).permutation(len(rows))
    return [rows[int(n)] for n in mixed]


def _common(samples: Sequence[Sample], row_tokens: int, share: bool) -> set[bytes]:
    """System turns whose conversations would fill a row of their own."""
    tokens: dict[bytes, int] = {}
    for sample in samples:
        for key, end in sample.shared(share)[:1]:
            tokens[key] = tokens.get(key, 0) + len(sample.ids) - end
    return {key for key, count in tokens.items() if count > row_tokens}


def _order(samples: Sequence[Sample], seed: int, share: bool) -> list[int]:
    """A random order in which the samples of one picture follow each other, so that they meet in a row."""
    groups: dict[object, list[int]] = {}
    shuffled = np.random.default_rng(seed).permutation(len(samples))
    for n in map(int, shuffled):
        parts = samples[n].shared(share)
        groups.setdefault(parts[1][0] if len(parts) > 1 else n, []).append(n)
    return [n for group in groups.values() for n in group]


def build_row(samples: Sequence[Sample], *, share: bool = True) -> Row:
    """The arrays of one row; samples that share a system turn, and under it a picture, stand together behind it."""
    builder = _Builder()
    for sample in sorted(samples, key=lambda s: [key for key, _ in s.shared(share)]) if share else samples:
        builder.add(sample, share)
    ids, positions, targets = (np.concatenate(parts) for parts in (builder.ids, builder.positions, builder.targets))
    return Row(ids.astype(np.int64), positions, targets, builder.pieces, builder.images)


class _Builder:
    """A row in the making."""

    def __init__(self) -> None:
        self.ids: list[np.ndarray] = []
        self.positions: list[np.ndarray] = []
        self.targets: list[np.ndarray] = []
        self.pieces: list[TreePiece] = []
        self.images: list[int] = []
        self.at = 0
        self.held_parts: dict[bytes, tuple[int, int]] = {}  # shared part → its run of tokens in this row

    def add(self, sample: Sample, share: bool) -> None:
        """The parts of a sample that the row does not hold yet."""
        above: list[tuple[int, int]] = []
        start = 0
        for depth, (key, end) in enumerate(sample.shared(share)):
            if key not in self.held_parts:
                self.held_parts[key] = self._run(sample, start, end, tuple(above))
                self.images += sample.images[:1] if depth else ()
            above.append(self.held_parts[key])
            start = end
        self._run(sample, start, len(sample.ids), tuple(above))
        self.images += sample.images[1:] if share and sample.opening else sample.images

    def _run(self, sample: Sample, start: int, end: int, above: tuple[tuple[int, int], ...]) -> tuple[int, int]:
        run = (self.at, self.at + end - start)
        if end > start:
            self.ids.append(sample.ids[start:end])
            self.positions.append(np.arange(start, end))
            self.targets.append(sample.mask[start:end])
            self.pieces.append(TreePiece(*run, tuple(a for a in above if a[1] > a[0])))
            self.at = run[1]
        return run
