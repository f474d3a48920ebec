"""Pairs → what training reads: pictures decoded once to small uint8 squares, their captions, and which are true of which.

Knows the dataset of Pair and which captions are true of which picture. A picture with many captions (several rows of one MD5) is
kept once; for pairs composed from labels, a caption is true of every picture whose label it was ever composed for.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from pathasst.clip.image_cache import load_pixels
from pathasst.core.errors import BadDataset
from pathasst.core.records import Pair
from pathasst.dataset import read


@dataclass(slots=True)
class TrainingImage:
    """One picture of the training set: S×S×3 uint8, and what is known of it."""

    pixels: np.ndarray
    md5: str
    label: str
    source: str  # the set or article it came from
    group: str
    dataset: int = 0  # which of the folders that were read together
    captions: list[int] = field(default_factory=list)  # its own rows of `Pictures.texts`


@dataclass(slots=True)
class Pictures:
    """The pictures of some splits, and the captions with the concept that each states ("" = true of its own picture alone)."""

    images: list[TrainingImage]
    texts: list[str]
    concepts: list[str]
    by_label: dict[str, list[int]]  # label → rows of `texts` composed for it
    true_of: dict[str, set[str]]  # label → concepts that are true of it
    dropped: int = 0  # pictures that could not be decoded

    def captions(self, number: int) -> list[int]:
        """The rows of `texts` that may stand beside a picture."""
        image = self.images[number]
        return self.by_label.get(image.label, image.captions)

    def truth(self, pictures: Sequence[int], texts: Sequence[int]) -> np.ndarray:
        """bool [n, m]: which captions are true of which pictures. Composed captions go by concept, others by picture."""
        out = np.zeros((len(pictures), len(texts)), bool)
        columns: dict[str, list[int]] = defaultdict(list)  # concept → columns that state it
        own: dict[int, list[int]] = defaultdict(list)  # row of `texts` with words of its own → its columns
        for j, text in enumerate(texts):
            (columns[self.concepts[text]] if self.concepts[text] else own[text]).append(j)
        for i, picture in enumerate(pictures):
            image = self.images[picture]
            for concept in self.true_of.get(image.label, ()):
                out[i, columns.get(concept, [])] = True
            for text in image.captions:
                out[i, own.get(text, [])] = True
        return out

    def without(self, sources: Sequence[str]) -> tuple[Pictures, np.ndarray]:
        """Those that do not come from some sources, with the rows that they had: int [n]. The texts stay, but are not drawn."""
        rows = [n for n, s in enumerate(self.images) if s.source not in sources]
        images = [self.images[n] for n in rows]
        labels = {s.label for s in images}
        used = {t for s in images for t in s.captions}
        by_label = {k: v for k, v in self.by_label.items() if k in labels}
        used |= {t for v in by_label.values() for t in v}
        concepts = [c if n in used else "" for n, c in enumerate(self.concepts)]
        return Pictures(images, self.texts, concepts, by_label, self.true_of), np.array(rows)

    def sampling(self, power: float, shares: Sequence[float] = ()) -> np.ndarray:
        """Probability of each picture, as the function `sampling`."""
        return sampling(self.images, power, shares)


def sampling(images: Sequence[TrainingImage], power: float, shares: Sequence[float] = ()) -> np.ndarray:
    """Probability of each picture: classes count as (their size)^power, pictures without a label as one class a source.

    `shares`: of each dataset, the share of its pictures among those drawn, in any unit; empty: what their classes give.
    """
    keys = [s.label or s.source for s in images]
    sizes = Counter(keys)
    share = np.array([sizes[k] ** (power - 1.0) for k in keys])
    if shares:
        datasets = np.array([s.dataset for s in images])
        share *= np.asarray(shares)[datasets] / np.bincount(datasets, share, len(shares))[datasets]
    return share / share.sum()


def load_pictures(
    folders: Sequence[Path | str], splits: Sequence[str], size: int, *, leave_out: Sequence[str] = (), file: Path | None = None
) -> Pictures:
    """Read pair datasets; pictures become `size`×`size` (shorter side to size, centre crop), in memory or mapped from `file`.

    `leave_out` names sources (`Source.article_id`) to skip, for leave-one-dataset-out. Raises BadDataset when nothing is left.
    """
    first: dict[str, Pair] = {}  # of each picture, without its bytes
    dataset_of: dict[str, int] = {}
    rows: list[Pair] = []

    def pictures() -> Iterator[tuple[str, bytes]]:
        for number, folder in enumerate(folders):
            for pair in read(folder, Pair):
                if pair.split not in splits or pair.source.article_id in leave_out or not pair.caption:
                    continue
                rows.append(replace(pair, image=b""))
                if pair.md5 not in first:
                    first[pair.md5] = rows[-1]
                    dataset_of[pair.md5] = number
                    yield pair.md5, pair.image

    pixels = load_pixels(pictures(), size, file)
    by_md5 = {
        m: TrainingImage(pixels[m], m, p.label, p.source.article_id, p.group, dataset_of[m])
        for m, p in first.items()
        if m in pixels
    }
    out = Pictures(list(by_md5.values()), [], [], defaultdict(list), defaultdict(set), len(first) - len(by_md5))
    text_rows: dict[tuple[str, str], int] = {}
    for pair in rows:
        if pair.md5 in by_md5:
            _add_caption(out, text_rows, by_md5[pair.md5], pair)
    if not out.images:
        raise BadDataset(f"no pictures with captions in {', '.join(map(str, folders))} for the splits {', '.join(splits)}.")
    return out


def _add_caption(out: Pictures, text_rows: dict[tuple[str, str], int], image: TrainingImage, pair: Pair) -> None:
    concept = pair.concept
    key = (pair.caption, concept)
    if key not in text_rows:
        text_rows[key] = len(out.texts)
        out.texts.append(pair.caption)
        out.concepts.append(concept)
    row = text_rows[key]
    image.captions.append(row)
    if concept:
        out.true_of[pair.label].add(concept)
        out.by_label[pair.label].append(row)


def sentence_windows(caption: str, count: Callable[[str], int], length: int) -> list[str]:
    """The caption itself if it fits `length` tokens; else the runs of whole sentences that do, one starting at each sentence.

    A single sentence that is too long stays, and the tokenizer cuts it.
    """
    if count(caption) <= length:
        return [caption]
    sentences = re.split(r"(?<=[.;!?])\s+(?=\S)", caption)
    windows = []
    for first in range(len(sentences)):
        last = first + 1
        while last < len(sentences) and count(" ".join(sentences[first : last + 1])) <= length:
            last += 1
        windows.append(" ".join(sentences[first:last]))
        if last == len(sentences):
            break
    return windows
