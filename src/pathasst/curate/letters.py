"""Reading the letters printed beside or inside panels, by OCR of small crops (`ocr`, no text detector).

Knows pixel arrays and panels. Two places are looked at: small things between the panels ("(a)" below a picture), which the
X–Y cut has found anyway, and glyph-like blobs in the corners of a panel.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pathasst.core.records import Panel
from pathasst.curate.ocr import recognise

if TYPE_CHECKING:
    import numpy as np

Box = tuple[int, int, int, int]
_LETTER = re.compile(r"^[\(\[\{（]?\s*([A-Za-z])\d?\s*[\)\]\}）.:,]?$")
_ALIKE = {"0": "O", "1": "I", "8": "B", "6": "G", "©": "C", "®": "R", "（": "(", "）": ")"}
MAX_CROPS = 60


@dataclass(frozen=True, slots=True)
class Glyph:
    """A letter that was read."""

    letter: str  # upper case
    box: Box
    score: float


class LetterReader:
    """Reads the printed letter of each panel. The recogniser is loaded on first use."""

    version = "rapidocr-letters-2"

    def __call__(self, picture: np.ndarray, panels: Sequence[Panel], small: Sequence[Box] = ()) -> list[str]:
        """One upper-case letter or "" per panel. `small`: boxes of things between or in the panels, from `PanelFinder.cut`."""
        side = max(picture.shape[:2])
        small = [b for b in small if 5 <= b[3] - b[1] <= max(24, 0.09 * side) and 3 <= b[2] - b[0] <= max(40, 0.12 * side)]
        owners = {b: next((n for n, p in enumerate(panels) if _within(b, p.box)), -1) for b in small}
        glyphs = self._read(picture, [b for b in small if owners[b] < 0][:MAX_CROPS])
        letters = assign_outside(glyphs, panels)
        self._fill(picture, letters, [(n, b) for b, n in owners.items() if n >= 0])
        missing = [n for n, x in enumerate(letters) if not x]
        if missing and len(panels) > 1:
            self._fill(picture, letters, [(n, b) for n in missing for b in corner_blobs(picture, panels[n].box)])
        return plausible(letters)

    def _fill(self, picture: np.ndarray, letters: list[str], places: Sequence[tuple[int, Box]]) -> None:
        """Read boxes that belong to panels without a letter yet; the first that reads as a new letter names its panel."""
        places = [(n, b) for n, b in places if not letters[n]][:MAX_CROPS]
        owner = {b: n for n, b in places}
        for glyph in self._read(picture, [b for _, b in places]):
            if not letters[owner[glyph.box]] and glyph.letter not in letters:
                letters[owner[glyph.box]] = glyph.letter

    def _read(self, picture: np.ndarray, boxes: Sequence[Box]) -> list[Glyph]:
        results = []
        for box, (text, score) in zip(boxes, recognise([_crop(picture, b) for b in boxes]), strict=True):
            text = "".join(_ALIKE.get(c, c) if len(text) <= 3 else c for c in text.strip())
            match = _LETTER.match(text)
            if match and score >= 0.5:
                results.append(Glyph(match[1].upper(), box, score))
        return results


def _crop(picture: np.ndarray, box: Box) -> np.ndarray:
    """The box with a margin of its own ground, 48 px high, as BGR."""
    import cv2
    import numpy as np

    part = picture[max(0, box[1] - 1) : box[3] + 1, max(0, box[0] - 1) : box[2] + 1]
    edge = np.concatenate([part[0], part[-1], part[:, 0], part[:, -1]])
    ground = tuple(int(v) for v in np.median(edge, axis=0))
    scale = 32 / max(1, part.shape[0])
    part = cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA)
    framed: np.ndarray = cv2.copyMakeBorder(part, 8, 8, 12, 12, cv2.BORDER_CONSTANT, value=ground)
    return framed[..., ::-1]


def assign_outside(glyphs: Sequence[Glyph], panels: Sequence[Panel]) -> list[str]:
    """Letters between panels go to panels so that each has one at most and the distances are smallest in all.

    Below or above the middle of a panel, or at its upper left: the side that most letters of the figure agree on.
    """
    import numpy as np
    from scipy.optimize import linear_sum_assignment

    letters = [""] * len(panels)
    if not glyphs or not panels:
        return letters
    best: tuple[float, list[tuple[int, int]]] | None = None
    reach = max(max(p.box[2] - p.box[0], p.box[3] - p.box[1]) for p in panels)
    for anchor in _ANCHORS:
        cost = np.array([[_distance(g.box, _point(p.box, anchor)) for p in panels] for g in glyphs])
        rows, columns = linear_sum_assignment(cost)
        pairs = [(int(r), int(c)) for r, c in zip(rows, columns, strict=True) if cost[r, c] < 0.6 * reach]
        total = float(sum(cost[r, c] for r, c in pairs)) + reach * (min(len(glyphs), len(panels)) - len(pairs))
        if pairs and (best is None or total < best[0]):
            best = (total, pairs)
    for r, c in best[1] if best else []:
        letters[c] = glyphs[r].letter
    return letters


_ANCHORS = ((0.5, 1.0), (0.5, 0.0), (0.0, 0.0), (0.0, 1.0), (1.0, 0.0))


def _point(box: Sequence[float], anchor: tuple[float, float]) -> tuple[float, float]:
    return box[0] + anchor[0] * (box[2] - box[0]), box[1] + anchor[1] * (box[3] - box[1])


def _distance(box: Box, point: tuple[float, float]) -> float:
    return float(((box[0] + box[2]) / 2 - point[0]) ** 2 + ((box[1] + box[3]) / 2 - point[1]) ** 2) ** 0.5


def _within(box: Box, panel: Sequence[float]) -> bool:
    """Whether the middle of a box lies in a panel."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return panel[0] <= x <= panel[2] and panel[1] <= y <= panel[3]


def corner_blobs(picture: np.ndarray, box: Sequence[float]) -> list[Box]:
    """Boxes of letter-sized blobs, black or white, in the corners of a panel; upper left first, three per corner at most."""
    import cv2
    import numpy as np

    x1, y1, x2, y2 = (int(v) for v in box)
    reach_x, reach_y = max(24, int(0.26 * (x2 - x1))), max(24, int(0.26 * (y2 - y1)))
    side = min(x2 - x1, y2 - y1)
    results: list[Box] = []
    for cx, cy in ((x1, y1), (x2 - reach_x, y1), (x1, y2 - reach_y), (x2 - reach_x, y2 - reach_y)):
        cx, cy = max(0, cx), max(0, cy)
        part = picture[cy : min(y2, cy + reach_y), cx : min(x2, cx + reach_x)]
        if min(part.shape[:2]) < 12:
            continue
        red, green, blue = cv2.split(part)
        grey = cv2.min(cv2.min(red, green), blue), cv2.max(cv2.max(red, green), blue)
        blobs: list[tuple[float, Box]] = []
        for mask in (grey[1] < 70, grey[0] > 200):
            _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
            for bx, by, bw, bh, area in stats[1:]:
                inner = bx > 0 and by > 0 and bx + bw < part.shape[1] and by + bh < part.shape[0]
                if inner and 8 <= bh <= 0.2 * side + 10 and 0.15 <= bw / bh <= 1.6 and 0.15 <= area / (bw * bh) <= 0.92:
                    away = abs(cx + bx - (x1 if cx == x1 else x2)) + abs(cy + by - (y1 if cy == y1 else y2))
                    blobs.append(
                        (float(away), (cx + int(bx) - 2, cy + int(by) - 2, cx + int(bx + bw) + 2, cy + int(by + bh) + 2))
                    )
        results += [b for _, b in sorted(blobs)[:3]]
    return results


def plausible(letters: Sequence[str]) -> list[str]:
    """Letters that can be panel names: without doubles, and none beyond the number of panels but one that continues a run."""
    read = {x for x in letters if x}
    earlier: set[str] = set()
    names = []
    for letter in letters:
        place = ord(letter) - ord("A") if letter else 0
        neighbours = {chr(ord(letter) - 1), chr(ord(letter) + 1)} & read if letter else set()
        good = bool(letter) and letter not in earlier and (place < len(letters) or bool(neighbours))
        names.append(letter if good else "")
        earlier.add(letter)
    return names


def are_sure(letters: Sequence[str]) -> bool:
    """Whether letters are read beyond doubt: each of two or more panels has one, and they are a run (A, B, C; J, K)."""
    places = sorted(ord(x) for x in letters if len(x) == 1)
    return len(letters) > 1 and len(places) == len(letters) and places == list(range(places[0], places[0] + len(places)))
