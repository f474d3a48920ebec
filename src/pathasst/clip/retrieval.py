"""Cross-modal retrieval (Figure 4): captions ↔ pictures, recall at k in both directions, with intervals and a curve.

Knows pairs and PathCLIP. A picture with several captions (or a caption of several pictures) has several right answers; a query is
a hit when any of them is among the k nearest, as CLIP_benchmark counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pathasst.clip import pictures
from pathasst.clip.scores import recall_at
from pathasst.core.errors import BadDataset
from pathasst.core.records import Pair
from pathasst.core.statistics import Interval, mean_interval
from pathasst.dataset import read

if TYPE_CHECKING:
    from pathasst.clip.model import DualEncoder

KS = (1, 5, 10, 50)
LONGEST = 77  # tokens of CLIP's text tower, start and end included; longer captions are left out (Figure 4)


@dataclass(frozen=True, slots=True)
class Recalls:
    """Recall at k, one direction."""

    direction: str  # image to text | text to image
    at: dict[int, Interval]
    queries: int
    items: int
    too_long: int  # captions left out
    unreadable: int  # pictures left out
    chance: dict[int, float]  # recall at k of a random order; more than k of all items where a query has several right answers

    def row(self) -> dict[str, Any]:
        return {"direction": self.direction, "queries": self.queries, "items": self.items} | {
            f"R@{k}": str(v) for k, v in self.at.items()
        }


def retrieve(
    clip: DualEncoder,
    folders: Sequence[Path | str],
    splits: Sequence[str],
    *,
    ks: Sequence[int] = KS,
    composed: bool = False,
) -> list[Recalls]:
    """Recall of the pairs of some splits, both directions. Composed captions (true of many pictures) only if asked for.

    Raises BadDataset when no pair is left.
    """
    pairs = [
        p for f in folders for p in read(f, Pair) if p.split in splits and p.caption and (composed or p.source.kind != "labels")
    ]
    fits = set(short_enough([p.caption for p in pairs]))
    by_md5 = {p.md5: p for p in reversed(pairs) if p.caption in fits}
    images, rows = pictures.embed(clip, [p.image for p in by_md5.values()])
    md5s = list(by_md5)
    readable = [md5s[n] for n in rows]
    image_row = {md5: n for n, md5 in enumerate(readable)}
    usable = [p for p in pairs if p.caption in fits and p.md5 in image_row]
    if not usable:
        raise BadDataset(f"no pairs with captions of at most {LONGEST} tokens in {', '.join(map(str, folders))}.")
    texts = sorted({p.caption for p in usable})
    text_row = {t: n for n, t in enumerate(texts)}
    of_image: list[set[int]] = [set() for _ in readable]
    of_text: list[set[int]] = [set() for _ in texts]
    cluster_of_text = [""] * len(texts)
    for pair in usable:
        of_image[image_row[pair.md5]].add(text_row[pair.caption])
        of_text[text_row[pair.caption]].add(image_row[pair.md5])
        cluster_of_text[text_row[pair.caption]] = pair.group or pair.md5
    similarity = images @ clip.encode_text(texts).T
    groups = [by_md5[md5].group or md5 for md5 in readable]
    left_out = len({p.caption for p in pairs} - fits), len(by_md5) - len(readable)
    return [
        _recalls("image to text", similarity, of_image, groups, ks, left_out),
        _recalls("text to image", similarity.T, of_text, cluster_of_text, ks, left_out),
    ]


def short_enough(captions: Sequence[str]) -> list[str]:
    """The captions of at most 77 tokens, counted by CLIP's own tokenizer whatever the model's text tower is."""
    import open_clip

    tokenizer = open_clip.SimpleTokenizer()
    return [c for c in captions if len(tokenizer.encode(c)) + 2 <= LONGEST]


def draw_curve(tables: dict[str, list[Recalls]]) -> bytes:
    """Recall over k as PNG, one line per data set and direction; circles are what a random order reaches."""
    from pathasst.core.plots import plot, png

    [axes] = plot(7, 4)
    lines = [(name, recalls) for name, table in tables.items() for recalls in table]
    for name, recalls in lines:
        ks = sorted(recalls.at)
        [line] = axes.plot([str(k) for k in ks], [recalls.at[k].value for k in ks], label=f"{name}, {recalls.direction}")
        axes.plot([str(k) for k in ks], [recalls.chance[k] for k in ks], "o", color=line.get_color(), fillstyle="none")
    axes.plot([], [], "o", color="grey", fillstyle="none", label="by chance")
    axes.set(xlabel="k", ylabel="recall at k", ylim=(0, 1))
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return png(axes)


def _recalls(
    direction: str,
    similarity: np.ndarray,
    positives: list[set[int]],
    clusters: list[str],
    ks: Sequence[int],
    left_out: tuple[int, int],
) -> Recalls:
    hits = recall_at(similarity, [sorted(p) for p in positives], ks)
    at = {k: mean_interval(hits[:, i], clusters) for i, k in enumerate(ks)}
    queries, items = similarity.shape
    chance = {k: by_chance(items, [len(p) for p in positives], k) for k in ks}
    return Recalls(direction, at, queries, items, *left_out, chance)


def by_chance(items: int, right: Sequence[int], k: int) -> float:
    """Mean over queries of the odds that one of its `right` answers is among k of the items, drawn without replacement."""
    return sum(1 - comb(items - r, k) / comb(items, k) for r in right) / len(right) if k < items else 1.0
