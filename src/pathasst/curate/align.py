"""Which sub-caption belongs to which panel: Hungarian matching on letters, picture–text similarity and order (PathCap step 2).

Knows panels and sub-captions. The similarity comes from the caller (PathCLIP lives in a room to the right): a matrix of panels ×
captions, or nothing, and then letters and reading order decide alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pathasst.core.records import Panel
from pathasst.core.settings import Field, Settings
from pathasst.curate.captions.split import SubCaption
from pathasst.curate.panels import reading_order
from pathasst.imaging.boxes import iou

if TYPE_CHECKING:
    import numpy as np


class AlignSettings(Settings):
    """Weights of the evidence that a panel and a sub-caption belong together."""

    letter: float = Field(2.0, description="the printed letter is the caption's")
    clash: float = Field(-1.5, description="printed letter and the caption's letter are known and differ")
    order: float = Field(0.6, description="same rank in reading order and in the caption; falls with the distance")
    similarity: float = Field(1.0, description="weight of PathCLIP's similarity, scaled to 0–1 within the figure")
    least: float = Field(0.55, description="a match is kept from this sum on")


@dataclass(frozen=True, slots=True)
class Match:
    """A panel and its sub-caption."""

    panel: int
    caption: int
    score: float
    by: str  # letter | order | similarity | place | whole


def align(
    panels: Sequence[Panel],
    captions: Sequence[SubCaption],
    similarity: np.ndarray | None = None,
    settings: AlignSettings | None = None,
) -> list[Match]:
    """The best one-to-one matches, in panel order. `similarity`: (panels, captions), any scale; higher means more alike.

    Without letters and without similarity, order alone matches only where there are as many panels as sub-captions.
    """
    import numpy as np
    from scipy.optimize import linear_sum_assignment

    s = settings or AlignSettings()
    if not panels or not captions:
        return []
    letters = evidence_of_letters(panels, captions, s)
    order = evidence_of_order(panels, captions, s)
    alike = np.zeros_like(letters) if similarity is None else s.similarity * _scaled(np.asarray(similarity, float))
    total = letters + order + alike
    same_count = len(panels) == len(captions)
    matches = []
    for i, j in zip(*linear_sum_assignment(-total), strict=True):
        by = _by(panels[i], float(letters[i, j]), similarity is not None)
        enough = letters[i, j] > 0 or (total[i, j] >= s.least and letters[i, j] >= 0 and (same_count or similarity is not None))
        if enough:
            matches.append(Match(int(i), int(j), round(float(total[i, j]), 4), by))
    return sorted(matches, key=lambda m: m.panel)


def _by(panel: Panel, letters: float, by_similarity: bool) -> str:
    if letters > 0:
        return "letter" if panel.letter else "place"
    return "similarity" if by_similarity else "order"


def evidence_of_letters(panels: Sequence[Panel], captions: Sequence[SubCaption], s: AlignSettings) -> np.ndarray:
    """(panels, captions): agreement of the printed letter, or of the place where the caption names places (LEFT, TOP …)."""
    import numpy as np

    out = np.zeros((len(panels), len(captions)))
    spots = _places(panels)
    for i, panel in enumerate(panels):
        for j, caption in enumerate(captions):
            if len(caption.letter) > 1:
                out[i, j] = s.letter * 0.6 if set(caption.letter.split()) <= spots[i] else s.clash * 0.5
            elif panel.letter and caption.letter:
                out[i, j] = s.letter if panel.letter.upper() == caption.letter.upper() else s.clash
    return out


def evidence_of_order(panels: Sequence[Panel], captions: Sequence[SubCaption], s: AlignSettings) -> np.ndarray:
    """(panels, captions): nearness of the panel's rank on the page to the caption's rank in the text."""
    import numpy as np

    boxes = [(int(p.box[0]), int(p.box[1]), int(p.box[2]), int(p.box[3])) for p in panels]
    rank = {b: float(n) for n, b in enumerate(reading_order(boxes))}
    rows = np.array([rank[b] for b in boxes]) / max(1, len(panels) - 1)
    columns = np.arange(len(captions), dtype=float) / max(1, len(captions) - 1)
    near: np.ndarray = s.order * (1 - abs(rows[:, None] - columns[None, :]))
    return near


def _scaled(matrix: np.ndarray) -> np.ndarray:
    """Zero to one, after each caption's and each panel's own level is taken out (some captions are like every picture)."""
    centred = matrix - matrix.mean(axis=0, keepdims=True) - matrix.mean(axis=1, keepdims=True) + matrix.mean()
    span = float(centred.max() - centred.min())
    out: np.ndarray = (centred - centred.min()) / span if span > 1e-9 else centred * 0
    return out


def _places(panels: Sequence[Panel]) -> list[set[str]]:
    """LEFT, RIGHT, TOP, UPPER … for each panel, from where its middle lies among the others."""
    xs = [(p.box[0] + p.box[2]) / 2 for p in panels]
    ys = [(p.box[1] + p.box[3]) / 2 for p in panels]
    spots = []
    for x, y in zip(xs, ys, strict=True):
        spot: set[str] = set()
        for value, values, low, high in ((x, xs, ("LEFT",), ("RIGHT",)), (y, ys, ("TOP", "UPPER"), ("BOTTOM", "LOWER"))):
            span = max(values) - min(values)
            part = (value - min(values)) / span if span > 1 else 0.5
            spot |= set(low) if part < 1 / 3 else set(high) if part > 2 / 3 else {"MIDDLE", "CENTER"} if span > 1 else set()
        spots.append(spot)
    return spots


def join_by_letters(panels: Sequence[Panel], captions: Sequence[SubCaption]) -> list[Panel]:
    """Pictures that share one printed letter become one panel, where the caption names as many panels as letters were read.

    Each unlettered picture joins the nearest lettered one; nothing changes where the joined boxes would overlap.
    """
    lettered = [p for p in panels if p.letter]
    caption_letters = {c.letter for c in captions if c.letter}
    if (
        not lettered
        or len(lettered) == len(panels)
        or len(lettered) != len(caption_letters)
        or {p.letter for p in lettered} != caption_letters
    ):
        return list(panels)
    boxes = {p.letter: p.box for p in lettered}
    for panel in (p for p in panels if not p.letter):
        near = min(lettered, key=lambda p: _apart(p.box, panel.box)).letter
        a, b = boxes[near], panel.box
        boxes[near] = (min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3]))
    merged = [replace(p, box=boxes[p.letter]) for p in lettered]
    overlap = any(iou(a.box, b.box) > 0.05 for n, a in enumerate(merged) for b in merged[n + 1 :])
    return list(panels) if overlap else merged


def _apart(a: Sequence[float], b: Sequence[float]) -> float:
    dx, dy = max(0.0, b[0] - a[2], a[0] - b[2]), max(0.0, b[1] - a[3], a[1] - b[3])
    middle = abs(a[0] + a[2] - b[0] - b[2]) + abs(a[1] + a[3] - b[1] - b[3])
    return dx + dy + 0.05 * middle
