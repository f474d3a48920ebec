"""Samples packed into rows: no padding, no attention between samples, and a system turn that several share computed once.

A row is a tree of depth two: prefixes (system turns with the tool list), and under each the conversations that begin with
it. Every conversation sees its own prefix and itself, at the positions it would have alone, so its loss is the one of the
plain way (tested); the list of tools, often longer than the conversation, is paid once a row. Knows arrays; knows no model
and no training loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pathasst.mllm.tree_attention import Piece

OPEN_ROWS = 48  # how many rows wait for a fitting sample


@dataclass(frozen=True, slots=True)
class Sample:
    """One conversation ready for training."""

    name: str
    ids: np.ndarray  # int32, n
    mask: np.ndarray  # bool, n: which ids the loss counts
    prefix: int  # length of the system turn
    images: tuple[int, ...] = ()  # rows of the table of vision features, in order of their placeholders
    kind: str = ""

    @property
    def supervised(self) -> int:
        """How many tokens the loss counts."""
        return int(self.mask.sum())


@dataclass(frozen=True, slots=True)
class Row:
    """One packed row of n tokens."""

    ids: np.ndarray  # int64, n
    positions: np.ndarray  # int64, n: position inside the conversation
    targets: np.ndarray  # bool, n: the loss counts the prediction of this token
    pieces: list[Piece] = field(default_factory=list)  # which run of tokens sees which: prefixes and conversations
    images: list[int] = field(default_factory=list)  # rows of the feature table, in order of the placeholders


def plan(samples: Sequence[Sample], row_tokens: int, seed: int, *, share: bool = True) -> list[list[int]]:
    """Indices of the samples of each row, in a random order that depends on `seed` alone; a row holds at most `row_tokens` tokens
    (one longer sample alone may exceed it). `share` off: every sample carries its own system turn."""
    order = np.random.default_rng(seed).permutation(len(samples))
    waiting: list[tuple[list[int], set[bytes], int]] = []  # samples, prefixes, tokens
    rows: list[list[int]] = []
    for n in map(int, order):
        sample = samples[n]
        prefix, rest = _prefix(sample) if share else b"%d" % n, len(sample.ids) - sample.prefix
        best, cost = -1, 0
        for place, (_, prefixes, used) in enumerate(waiting):
            needed = rest + (0 if prefix in prefixes else sample.prefix)
            if used + needed <= row_tokens and (best < 0 or needed < cost):
                best, cost = place, needed
        if best < 0 or (cost > rest and len(waiting) < OPEN_ROWS and _rare(waiting, prefix)):
            waiting.append(([n], {prefix}, len(sample.ids)))
            if len(waiting) > OPEN_ROWS:
                rows.append(waiting.pop(int(np.argmax([w[2] for w in waiting])))[0])
        else:
            members, prefixes, used = waiting[best]
            members.append(n)
            waiting[best] = (members, prefixes | {prefix}, used + cost)
    rows += [w[0] for w in waiting]
    mixed = np.random.default_rng((seed, 1)).permutation(len(rows))
    return [rows[int(n)] for n in mixed]


def build_row(samples: Sequence[Sample], *, share: bool = True) -> Row:
    """The arrays of one row; samples of one prefix stand together behind it."""
    groups: dict[bytes, list[Sample]] = {}
    for n, sample in enumerate(samples):
        groups.setdefault(_prefix(sample) if share else b"%d" % n, []).append(sample)
    ids, positions, targets, images = [], [], [], []
    pieces: list[Piece] = []
    at = 0
    for members in groups.values():
        start, top = members[0].prefix, at
        parts = [(members[0].ids[:start], np.zeros(start, bool), 0)]
        parts += [(s.ids[start:], s.mask[start:], start) for s in members]
        for tokens, counted, first in parts:
            ids.append(tokens)
            positions.append(np.arange(first, first + len(tokens)))
            targets.append(counted)
            pieces.append(Piece(at, at + len(tokens), top, top + first))
            at += len(tokens)
        images += [i for s in members for i in s.images]
    whole = (np.concatenate(ids).astype(np.int64), np.concatenate(positions).astype(np.int64), np.concatenate(targets))
    return Row(*whole, [p for p in pieces if p.end > p.start], images)


def _prefix(sample: Sample) -> bytes:
    return sample.ids[: sample.prefix].tobytes()


def _rare(waiting: Sequence[tuple[list[int], set[bytes], int]], prefix: bytes) -> bool:
    """Whether no waiting row has the prefix yet: then a row of its own gathers its likes."""
    return all(prefix not in prefixes for _, prefixes, _ in waiting)
