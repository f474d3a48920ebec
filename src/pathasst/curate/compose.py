"""Compound figures composed from single pictures, with every panel's and letter's box: what the panel detector learns from.

Knows pixel arrays and a generator. Layouts come from real figures (`read_layouts`, PanelSeg's boxes) or are drawn as unequal
grids; gutters (wide, thin, none), grounds, borders, insets, scale bars, arrows, words and printed letters in and outside are
drawn by chance. An inset belongs to its panel: it gets no box.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pathasst.core.errors import BadInput
from pathasst.core.settings import Field, Settings
from pathasst.training.settings import Share

if TYPE_CHECKING:
    import numpy as np

Rect = tuple[float, float, float, float]
"""x1 y1 x2 y2 as shares of the figure."""


class ComposeSettings(Settings):
    """Chances (0–1) and sizes; lengths in px of the composed figure."""

    side: int = Field(default=448, ge=32, description="Longer side of the figure.")
    single: Share = Field(default=0.15, description="Figures of one panel.")
    real_layout: Share = Field(default=0.6, description="Layouts of real figures, where some are given.")
    touching: Share = Field(default=0.25, description="Figures whose panels touch.")
    thin: Share = Field(default=0.25, description="Gutters of one to three px.")
    widest: int = Field(default=22, ge=1, description="Of the other gutters.")
    white: Share = Field(default=0.75, description="White grounds.")
    black: Share = Field(default=0.12, description="Black grounds.")
    border: Share = Field(default=0.2, description="A line around each panel.")
    alike: Share = Field(default=0.35, description="All panels are parts of one picture, or look like it.")
    inset: Share = Field(default=0.12, description="Insets of panels.")
    letters: Share = Field(default=0.8, description="Figures with letters.")
    inside: Share = Field(default=0.55, description="Of those: letters inside the panels.")
    marks: Share = Field(default=0.3, description="Scale bar, arrow or word in a panel.")
    words: Share = Field(default=0.2, description="Titles above columns.")


@dataclass(slots=True)
class Compound:
    """A composed figure. Boxes in px, in reading order of the layout; `letters[n]` is None where panel n has none printed."""

    picture: np.ndarray  # H×W×3 uint8 RGB
    panels: list[tuple[float, float, float, float]]
    letters: list[tuple[float, float, float, float] | None]
    names: list[str]
    style: dict[str, Any] = field(default_factory=dict)


def read_layouts(path: Path | str, most: int = 24) -> list[list[Rect]]:
    """Panels of real figures from PanelSeg's table (path, x1, y1, x2, y2, …), as shares; without those that overlap or are few.

    Raises BadInput when the file is no such table.
    """
    figures: dict[str, list[tuple[float, ...]]] = {}
    with Path(path).open(newline="", encoding="utf-8") as file:
        for row in csv.reader(file):
            try:
                figures.setdefault(row[0], []).append(tuple(float(v) for v in row[1:5]))
            except (ValueError, IndexError) as error:
                raise BadInput(f"{path} is no table of path, x1, y1, x2, y2: {row[:5]}") from error
    layouts = []
    for boxes in figures.values():
        width, height = max(b[2] for b in boxes), max(b[3] for b in boxes)
        rects = [(b[0] / width, b[1] / height, b[2] / width, b[3] / height) for b in boxes]
        if 2 <= len(rects) <= most and all(_apart(a, b) for n, a in enumerate(rects) for b in rects[n + 1 :]):
            layouts.append(rects)
    return layouts


def _apart(a: Rect, b: Rect) -> bool:
    """Whether two boxes overlap by less than 2 % of the figure's sides."""
    return min(a[2], b[2]) - max(a[0], b[0]) < 0.02 or min(a[3], b[3]) - max(a[1], b[1]) < 0.02


class Composer:
    """Call with a generator; gives a compound figure. The same generator state gives the same figure."""

    def __init__(
        self, pictures: Sequence[np.ndarray], layouts: Sequence[Sequence[Rect]] = (), settings: ComposeSettings | None = None
    ) -> None:
        """`pictures`: H×W×3 uint8 RGB, of any content and size."""
        self.pictures, self.layouts, self.settings = pictures, layouts, settings or ComposeSettings()

    def __call__(self, rng: np.random.Generator) -> Compound:
        import numpy as np

        s = self.settings
        aspect = float(np.exp(rng.uniform(-0.6, 0.6)))
        width, height = (s.side, round(s.side / aspect)) if aspect > 1 else (round(s.side * aspect), s.side)
        gutter, ground = self._gutter(rng), self._ground(rng)
        style = {"gutter": gutter, "ground": ground, "letters": rng.random() < s.letters, "inside": rng.random() < s.inside}
        rects = self._layout(rng)
        figure = np.full((height, width, 3), ground, np.uint8)
        margin = int(rng.integers(0, 14)) if rng.random() < 0.6 else 0
        strip = int(rng.integers(14, 26)) if style["letters"] and not style["inside"] else 0
        boxes = [_place(r, width, height, margin, gutter, strip) for r in rects]
        if any(min(b[2] - b[0], b[3] - b[1]) < 24 for b in boxes):
            boxes, strip = [_place((0.0, 0.0, 1.0, 1.0), width, height, margin, 0, 0)], 0
        alike, first = rng.random() < s.alike, int(rng.integers(0, len(self.pictures)))
        edge = int(rng.integers(1, 3)) if rng.random() < s.border else 0
        for box in boxes:
            source = first if alike else int(rng.integers(0, len(self.pictures)))
            self._fill(figure, box, self.pictures[source], edge, rng)
        lettering = _Lettering(bool(style["inside"]), strip, len(boxes) > 1 and bool(style["letters"]), ground, rng)
        panels = [tight(figure, box, ground) for box in boxes]
        letters = [lettering.print(figure, box, n) for n, box in enumerate(boxes)]
        if rng.random() < s.words and margin > 8:
            _title(figure, margin, ground, rng)
        return Compound(figure, panels, letters, [lettering.name(n) for n in range(len(boxes))], style)

    def _gutter(self, rng: np.random.Generator) -> int:
        draw, s = rng.random(), self.settings
        if draw < s.touching:
            return 0
        return int(rng.integers(1, 4)) if draw < s.touching + s.thin else int(rng.integers(4, s.widest))

    def _ground(self, rng: np.random.Generator) -> int:
        draw, s = rng.random(), self.settings
        return 255 if draw < s.white else 0 if draw < s.white + s.black else int(rng.integers(30, 235))

    def _layout(self, rng: np.random.Generator) -> list[Rect]:
        s = self.settings
        if rng.random() < s.single:
            return [(0.0, 0.0, 1.0, 1.0)]
        if self.layouts and rng.random() < s.real_layout:
            return close_gaps(self.layouts[int(rng.integers(0, len(self.layouts)))])
        return draw_grid(rng)

    def _fill(self, figure: np.ndarray, box: tuple[int, int, int, int], picture: np.ndarray, edge: int, rng: Any) -> None:
        import cv2

        s, (x1, y1, x2, y2) = self.settings, box
        panel = _part(picture, x2 - x1, y2 - y1, rng)
        if rng.random() < s.inset and min(panel.shape[:2]) > 60:
            h, w = (int(v * rng.uniform(0.2, 0.4)) for v in panel.shape[:2])
            y, x = (0 if rng.random() < 0.5 else panel.shape[0] - h), (0 if rng.random() < 0.5 else panel.shape[1] - w)
            panel[y : y + h, x : x + w] = _part(picture, w, h, rng)
            ink = int(rng.choice([0, 255]))
            cv2.rectangle(panel, (x, y), (x + w - 1, y + h - 1), (ink,) * 3, int(rng.integers(1, 3)))
        if rng.random() < s.marks:
            _mark(panel, rng)
        if edge:
            cv2.rectangle(panel, (0, 0), (panel.shape[1] - 1, panel.shape[0] - 1), (int(rng.choice([0, 255])),) * 3, edge)
        figure[y1:y2, x1:x2] = panel


def close_gaps(rects: Sequence[Rect]) -> list[Rect]:
    """A real layout with each panel grown to the middle of the gap to its neighbours; the composer sets gutters of its own."""
    closed = []
    for n, a in enumerate(rects):
        x1, y1, x2, y2 = 0.0, 0.0, 1.0, 1.0
        for m, b in enumerate(rects):
            if m == n:
                continue
            if min(a[3], b[3]) - max(a[1], b[1]) > 0.02:  # beside
                x1 = max(x1, (b[2] + a[0]) / 2) if b[2] <= a[0] + 0.02 else x1
                x2 = min(x2, (a[2] + b[0]) / 2) if b[0] >= a[2] - 0.02 else x2
            if min(a[2], b[2]) - max(a[0], b[0]) > 0.02:  # above or below
                y1 = max(y1, (b[3] + a[1]) / 2) if b[3] <= a[1] + 0.02 else y1
                y2 = min(y2, (a[3] + b[1]) / 2) if b[1] >= a[3] - 0.02 else y2
        near = 0.06  # a panel does not grow into empty parts of the figure
        closed.append((max(x1, a[0] - near), max(y1, a[1] - near), min(x2, a[2] + near), min(y2, a[3] + near)))
    return closed


def draw_grid(rng: np.random.Generator) -> list[Rect]:
    """Rows (or columns) of unequal size with unequal numbers of panels, some of them split again."""
    import numpy as np

    rows = int(rng.integers(1, 5))
    equal = rng.random() < 0.6
    heights = np.ones(rows) if equal else rng.uniform(0.6, 1.6, rows)
    edges = np.concatenate([[0], np.cumsum(heights / heights.sum())])
    count = int(rng.integers(1 if rows > 1 else 2, 5))
    rects: list[Rect] = []
    for top, bottom in pairwise(edges):
        n = count if rng.random() < 0.7 else int(rng.integers(1, 5))
        widths = np.ones(n) if rng.random() < 0.7 else rng.uniform(0.5, 1.6, n)
        cuts = np.concatenate([[0], np.cumsum(widths / widths.sum())])
        for left, right in pairwise(cuts):
            if right - left > 0.4 and bottom - top > 0.4 and rng.random() < 0.15:
                middle = float((top + bottom) / 2)
                rects += [(float(left), float(top), float(right), middle), (float(left), middle, float(right), float(bottom))]
            else:
                rects.append((float(left), float(top), float(right), float(bottom)))
    if rng.random() < 0.4:
        rects = [(b, a, d, c) for a, b, c, d in rects]
    return rects


def tight(figure: np.ndarray, box: Sequence[int], ground: int) -> tuple[float, float, float, float]:
    """The box without what cannot be told from the ground around it: a chart on white paper ends where its ink does."""
    import numpy as np

    x1, y1, x2, y2 = box
    ink = np.any(np.abs(figure[y1:y2, x1:x2].astype(np.int16) - ground) > 14, axis=2)
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    if not len(rows):
        return _floats(box)
    return _floats((x1 + int(columns[0]), y1 + int(rows[0]), x1 + int(columns[-1]) + 1, y1 + int(rows[-1]) + 1))


def _place(rect: Rect, width: int, height: int, margin: int, gutter: int, strip: int) -> tuple[int, int, int, int]:
    inner_w, inner_h = width - 2 * margin, height - 2 * margin
    x1, y1, x2, y2 = rect
    left = round(margin + x1 * inner_w) + (gutter // 2 if x1 > 0 else 0)
    right = round(margin + x2 * inner_w) - (gutter - gutter // 2 if x2 < 1 else 0)
    top = round(margin + y1 * inner_h) + (gutter // 2 if y1 > 0 else 0)
    bottom = round(margin + y2 * inner_h) - (gutter - gutter // 2 if y2 < 1 else 0) - strip
    return left, top, right, bottom


def _part(picture: np.ndarray, width: int, height: int, rng: Any) -> np.ndarray:
    """A part of a picture of the wanted shape; charts and whole fields stay whole half of the time."""
    import cv2
    import numpy as np

    h, w = picture.shape[:2]
    if rng.random() < 0.5:
        share = rng.uniform(0.5, 1.0)
        ph, pw = max(8, int(h * share)), max(8, int(w * share))
        y, x = int(rng.integers(0, h - ph + 1)), int(rng.integers(0, w - pw + 1))
        picture = picture[y : y + ph, x : x + pw]
    if rng.random() < 0.5:
        picture = picture[:, ::-1]
    shrink = cv2.INTER_AREA if picture.shape[0] > height else cv2.INTER_LINEAR
    return np.ascontiguousarray(cv2.resize(np.ascontiguousarray(picture), (width, height), interpolation=shrink))


def _mark(panel: np.ndarray, rng: Any) -> None:
    import cv2

    height, width = panel.shape[:2]
    ink = [(0, 0, 0), (255, 255, 255), (255, 255, 0)][int(rng.integers(0, 3))]
    kind = rng.random()
    if kind < 0.45:  # scale bar
        length = int(width * rng.uniform(0.1, 0.3))
        x, y = width - length - int(rng.integers(3, 10)), height - int(rng.integers(4, 12))
        cv2.line(panel, (x, y), (x + length, y), ink, int(rng.integers(1, 4)))
    elif kind < 0.75:
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        cv2.arrowedLine(panel, (x, y), (x + int(rng.integers(-30, 31)), y + int(rng.integers(-30, 31))), ink, 2, tipLength=0.4)
    else:
        word = ["H&E", "x200", "CD20", "Ki-67", "100 um", "control", "day 7"][int(rng.integers(0, 7))]
        at = (int(rng.uniform(0.1, 0.6) * width), int(rng.uniform(0.2, 0.95) * height))
        cv2.putText(panel, word, at, cv2.FONT_HERSHEY_SIMPLEX, float(rng.uniform(0.3, 0.6)), ink, 1, cv2.LINE_AA)


def _title(figure: np.ndarray, margin: int, ground: int, rng: Any) -> None:
    import cv2

    ink = (0, 0, 0) if ground > 127 else (255, 255, 255)
    for x in range(30, figure.shape[1] - 40, int(rng.integers(80, 200))):
        cv2.putText(figure, "Group", (x, margin - 2), cv2.FONT_HERSHEY_SIMPLEX, 0.3, ink, 1, cv2.LINE_AA)


def _floats(box: Sequence[int]) -> tuple[float, float, float, float]:
    return float(box[0]), float(box[1]), float(box[2]), float(box[3])


@cache
def _font(name: str, size: int) -> Any:
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(str(Path(matplotlib.__file__).parent / "mpl-data" / "fonts" / "ttf" / name), size)


FONTS = tuple(
    f"{n}.ttf" for n in ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSerif-Bold", "STIXGeneral", "STIXGeneralBol")
)


class _Lettering:
    """How one figure prints its letters: font, case, brackets, ink, place. The same for all of its panels."""

    def __init__(self, inside: bool, strip: int, printed: bool, ground: int, rng: Any) -> None:
        self.inside, self.strip, self.printed, self.ground = inside, strip, printed, ground
        self.font = FONTS[int(rng.integers(0, len(FONTS)))]
        self.size = int(rng.integers(12, 26)) if inside else max(10, int(0.7 * strip))
        self.shape = ["{}", "({})", "{})", "{}."][int(rng.choice(4, p=[0.55, 0.3, 0.1, 0.05]))]
        self.lower = rng.random() < 0.45
        self.corner = int(rng.choice(4, p=[0.6, 0.15, 0.15, 0.1]))
        self.middle = rng.random() < 0.6
        self.boxed = rng.random() < 0.25
        self.white = rng.random() < 0.3

    def name(self, n: int) -> str:
        """The letter of panel n, upper case."""
        return chr(ord("A") + n % 26)

    def print(self, figure: np.ndarray, box: tuple[int, int, int, int], n: int) -> tuple[float, float, float, float] | None:
        """Draw the letter; its box, or None where there is no room."""
        if not self.printed:
            return None
        text = self.shape.format(self.name(n).lower() if self.lower else self.name(n))
        font = _font(self.font, self.size)
        x1, y1, x2, y2 = font.getbbox(text)
        w, h = x2 - x1, y2 - y1
        at = self._at(box, w, h)
        if at is None or at[0] < 0 or at[1] < 0 or at[0] + w > figure.shape[1] or at[1] + h > figure.shape[0]:
            return None
        below = float(figure[at[1] : at[1] + h, at[0] : at[0] + w].mean())
        _write(figure, at, (w, h), (x1, y1), text, font, self._inks(below))
        return float(at[0]), float(at[1]), float(at[0] + w), float(at[1] + h)

    def _inks(self, below: float) -> tuple[int, int | None]:
        """Ink of the letter and of the box under it; white letters are printed on dark or coloured ground alone."""
        if not self.inside:
            return (0 if self.ground > 127 else 255), None
        ink = 255 if below < 70 or (self.white and (below < 190 or self.boxed)) else 0
        return ink, 255 - ink if self.boxed else None

    def _at(self, box: tuple[int, int, int, int], w: int, h: int) -> tuple[int, int] | None:
        x1, y1, x2, y2 = box
        if self.inside:
            if w + 8 > (x2 - x1) * 0.6 or h + 8 > (y2 - y1) * 0.6:
                return None
            return (x1 + 4 if self.corner in (0, 1) else x2 - w - 4), (y1 + 4 if self.corner in (0, 2) else y2 - h - 4)
        left = (x1 + x2 - w) // 2 if self.middle else x1
        return left, y2 + max(1, (self.strip - h) // 2)


def _write(
    figure: np.ndarray,
    at: tuple[int, int],
    size: tuple[int, int],
    offset: tuple[int, int],
    text: str,
    font: Any,
    inks: tuple[int, int | None],
) -> None:
    import numpy as np
    from PIL import Image, ImageDraw

    mask = Image.new("L", size, 0)
    ImageDraw.Draw(mask).text((-offset[0], -offset[1]), text, fill=255, font=font)
    part = figure[at[1] : at[1] + size[1], at[0] : at[0] + size[0]]
    if inks[1] is not None:
        part[:] = inks[1]
    alpha = np.asarray(mask, np.float32)[..., None] / 255
    part[:] = (part * (1 - alpha) + inks[0] * alpha).astype(np.uint8)
