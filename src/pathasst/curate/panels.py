"""Cutting a figure into its panels (paper, PathCap step 2: the sub-figure detector).

Knows pixel arrays. `PanelFinder` is what the pipeline needs of a detector; `CutDetector` is the classical one (recursive X–Y
cut along light and dark gutters), `OnnxDetector` runs the ONNX export of the paper's YOLOv7-tiny, `detect.LearnedDetector` joins
the cut with a detector trained here. Printed letters are read by `letters`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pathasst.core.records import Panel
from pathasst.curate.edge_split import SeamSettings, seam
from pathasst.imaging.boxes import iou
from pathasst.nn.onnx import open_foreign

if TYPE_CHECKING:
    import numpy as np

Box = tuple[int, int, int, int]
MOST_PIECES = 120
"""Pieces of charts that are joined by their distances; more are no charts."""
LIKE_SIZE = 4.0
"""The largest of a figure's charts by the area of its smallest."""


class PanelFinder(Protocol):
    """Anything that finds panels. Boxes are px of the picture, in reading order; letters may be empty."""

    version: str

    def cut(self, picture: np.ndarray, named: int = 0) -> tuple[list[Panel], list[Box]]:
        """Panels of an H×W×3 uint8 RGB picture (one at least), and boxes of small things between or in them: letters, words.

        `named`: how many panels the caption names; 0 where that is not known.
        """
        ...


@dataclass(frozen=True, slots=True)
class CutSettings:
    """Lengths are shares of the figure's longer side unless said otherwise."""

    work_side: int = 900  # px; the figure is searched at this size at most
    tolerance: int = 14  # grey levels a gutter may differ from its ground (JPEG ringing)
    clean: float = 0.995  # share of a gutter's pixels that must be ground
    min_gutter: float = 0.004
    min_panel: float = 0.10  # a panel's shorter side; what is smaller is text or ornament
    max_depth: int = 7
    seams: SeamSettings = field(default_factory=SeamSettings)  # where the caption names more panels than gutters part


@dataclass(frozen=True, slots=True)
class Cut:
    """A picture cut along its gutters: boxes in px of `grey`, which is the picture (H×W×3 uint8 RGB) at `scale`."""

    picture: np.ndarray
    grey: np.ndarray
    scale: float
    big: list[Box]
    small: list[Box]
    pieces: list[Box] = field(default_factory=list)  # everything that gutters part, before pieces of charts are joined


class CutDetector:
    """Recursive X–Y cut: split at straight gutters until none is left, drop text, join what one chart was torn into.

    Where the caption names more panels than that gives, pictures that touch are parted, the clearest seams first.
    """

    version = "xycut-4"

    def __init__(self, settings: CutSettings | None = None) -> None:
        self.settings = settings or CutSettings()

    def __call__(self, picture: np.ndarray) -> list[Panel]:
        panels, _ = self.cut(picture)
        return panels

    def cut(self, picture: np.ndarray, named: int = 0) -> tuple[list[Panel], list[Box]]:
        """Panels, and the boxes of small things between them (letters, words), both in px of the picture."""
        return self.parted(self.along_gutters(picture), named)

    def along_gutters(self, picture: np.ndarray) -> Cut:
        """What the gutters alone part."""
        import cv2

        s = self.settings
        height, width = picture.shape[:2]
        scale = min(1.0, s.work_side / max(height, width))
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        if scale < 1:
            grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        leaves: list[Box] = []
        self._split(grey, (0, 0, grey.shape[1], grey.shape[0]), 0, leaves)
        side = max(grey.shape)
        big = [b for b in leaves if min(b[2] - b[0], b[3] - b[1]) >= s.min_panel * side * 0.6]
        pieces = list(leaves)
        small = [b for b in leaves if b not in big]
        big = _join_sparse(grey, big, small, side)
        if not big:
            big = [_trim(grey, (0, 0, grey.shape[1], grey.shape[0]), s) or (0, 0, grey.shape[1], grey.shape[0])]
        return Cut(picture, grey, scale, _drop_slight(big, side, s), small, pieces)

    def parted(self, cut: Cut, named: int = 0) -> tuple[list[Panel], list[Box]]:
        """As `cut`; where the gutters part another number than is `named`, charts by their distances; fewer, along seams, too."""
        big = cut.big
        if named > 1 and len(big) != named:
            big = self.charts(cut, named)
        if len(big) < named:
            big = self._part(cut.picture, cut.grey, cut.big, named)
        small = [b for b in cut.small if not any(_inside(b, p) for p in big)]
        back = [tuple(round(v / cut.scale) for v in b) for b in reading_order(big)]
        panels = [Panel(box=(float(b[0]), float(b[1]), float(b[2]), float(b[3])), score=0.9) for b in back]
        return panels, [tuple(round(v / cut.scale) for v in b) for b in small]  # type: ignore[misc]

    def charts(self, cut: Cut, named: int) -> list[Box]:
        """The pieces of charts (axes, words, legends) as the cells of a grid of as many panels as are named, or joined, the
        closest first, until there are as many; what the gutters part where these are of no like size, or where a photograph is
        among them."""
        s, side = self.settings, max(cut.grey.shape)
        least = s.min_panel * side * 0.6
        if any(min(b[2] - b[0], b[3] - b[1]) >= least and _density(cut.grey, b) >= 0.4 for b in cut.pieces):
            return cut.big  # photographs are among them: the gutters know better
        if grid := _grid(cut.grey, named, least, s):
            return grid
        loose, expected = list(cut.pieces), named
        if not expected <= len(loose) <= MOST_PIECES:
            return cut.big
        while len(loose) > expected:
            a, b = min(itertools.combinations(loose, 2), key=lambda pair: _gap(*pair))
            loose = [o for o in loose if o not in (a, b)] + [_union(a, b)]
        areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in loose]
        sizes = all(min(b[2] - b[0], b[3] - b[1]) >= least for b in loose) and max(areas) <= LIKE_SIZE * min(areas)
        apart = all(_gap(a, b) > 0 for a, b in itertools.combinations(loose, 2))
        return loose if sizes and apart else cut.big

    def _split(self, grey: np.ndarray, box: Box, depth: int, leaves: list[Box]) -> None:
        trimmed = _trim(grey, box, self.settings)
        if trimmed is None:
            return
        if depth < self.settings.max_depth:
            parts = self._parts(grey, trimmed)
            if len(parts) > 1:
                for part in parts:
                    self._split(grey, part, depth + 1, leaves)
                return
        leaves.append(trimmed)

    def _parts(self, grey: np.ndarray, box: Box) -> list[Box]:
        """The box cut along all gutters of the direction that has the widest one."""
        x1, y1, x2, y2 = box
        region = grey[y1:y2, x1:x2]
        rows, columns = _gutters(region, self.settings, max(grey.shape)), _gutters(region.T, self.settings, max(grey.shape))
        widest = [max((b - a for a, b in g), default=0) for g in (rows, columns)]
        if not any(widest):
            return [box]
        if widest[0] >= widest[1]:
            edges = [0, *(v for g in rows for v in g), y2 - y1]
            return [(x1, y1 + a, x2, y1 + b) for a, b in zip(edges[::2], edges[1::2], strict=True) if b - a > 1]
        edges = [0, *(v for g in columns for v in g), x2 - x1]
        return [(x1 + a, y1, x1 + b, y2) for a, b in zip(edges[::2], edges[1::2], strict=True) if b - a > 1]

    def _part(self, picture: np.ndarray, grey: np.ndarray, boxes: list[Box], named: int) -> list[Box]:
        """The boxes parted along seams, the clearest first, until there are as many as are named or no seam is left."""
        import cv2

        s, colour = self.settings, picture
        if grey.shape != picture.shape[:2]:
            colour = cv2.resize(picture, grey.shape[::-1], interpolation=cv2.INTER_AREA)
        least = max(24, round(s.min_panel * max(grey.shape)))
        seams = {b: _seam(colour, b, least, s.seams) for b in boxes}
        while len(seams) < named and max(contrast for contrast, _ in seams.values()):
            best = max(seams, key=lambda b: seams[b][0])
            for part in seams.pop(best)[1]:
                leaves: list[Box] = []
                self._split(grey, part, s.max_depth - 1, leaves)
                large = [b for b in leaves if min(b[2] - b[0], b[3] - b[1]) >= least * 0.6] or [part]
                seams |= {b: _seam(colour, b, least, s.seams) for b in large}
        return list(seams)


def _seam(colour: np.ndarray, box: Box, least: int, s: SeamSettings) -> tuple[float, list[Box]]:
    """The contrast of the clearest seam of a box, across or down, and the two parts; (0.0, []) without one."""
    x1, y1, x2, y2 = box
    region = colour[y1:y2, x1:x2]
    across, down = seam(region, least, s), seam(region.swapaxes(0, 1), least, s)
    if not max(across[1], down[1]):
        return 0.0, []
    if across[1] >= down[1]:
        return across[1], [(x1, y1, x1 + across[0], y2), (x1 + across[0], y1, x2, y2)]
    return down[1], [(x1, y1, x2, y1 + down[0]), (x1, y1 + down[0], x2, y2)]


def _gutters(region: np.ndarray, s: CutSettings, side: int) -> list[tuple[int, int]]:
    """Runs of rows that are all light ground, or a thin dark line with picture hard on both sides."""
    import numpy as np

    height = region.shape[0]
    light = (region >= 255 - s.tolerance).mean(axis=1) >= s.clean
    gutters = [r for r in _runs(light) if r[1] - r[0] >= max(2, s.min_gutter * side) and r[0] > 0 and r[1] < height]
    thin = max(2, int(0.02 * side))
    for ground in (region <= s.tolerance, region >= 255 - 2 * s.tolerance):
        for a, b in _runs(ground.mean(axis=1) >= s.clean):
            if a > 2 and b < height - 2 and b - a <= thin and not any(a < d and c < b for c, d in gutters):
                level = float(np.median(region[a:b]))
                beside = (abs(region[a - 2].astype(float) - level), abs(region[b + 1].astype(float) - level))
                if min((side_ > 25).mean() for side_ in beside) >= 0.6:
                    gutters.append((a, b))
    return sorted(gutters)


def _runs(mask: np.ndarray) -> list[tuple[int, int]]:
    import numpy as np

    edges = np.flatnonzero(np.diff(np.concatenate(([0], mask.astype(np.int8), [0]))))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _trim(grey: np.ndarray, box: Box, s: CutSettings) -> Box | None:
    """The box without its light margins; None when nothing is in it."""
    import numpy as np

    x1, y1, x2, y2 = box
    ink = grey[y1:y2, x1:x2] < 255 - s.tolerance
    rows, columns = np.flatnonzero(ink.mean(axis=1) > 1 - s.clean), np.flatnonzero(ink.mean(axis=0) > 1 - s.clean)
    if not len(rows) or not len(columns):
        return None
    return x1 + int(columns[0]), y1 + int(rows[0]), x1 + int(columns[-1]) + 1, y1 + int(rows[-1]) + 1


def _density(grey: np.ndarray, box: Box) -> float:
    """Share of pixels that are not light ground: near 1 for a photograph, low for a chart or words."""
    x1, y1, x2, y2 = box
    return float((grey[y1:y2, x1:x2] < 235).mean())


def _join_sparse(grey: np.ndarray, big: list[Box], small: list[Box], side: int) -> list[Box]:
    """Pieces of one chart (axes, legend, bars) back into one box: sparse pieces that lie close together."""
    dense = [b for b in big if _density(grey, b) >= 0.4]
    loose = [b for b in big if b not in dense]
    loose += [b for b in small if any(_gap(b, o) < 0.025 * side for o in loose)] if loose else []
    near = 0.03 * side
    has_merged = True
    while has_merged:
        has_merged = False
        for i, a in enumerate(loose):
            for b in loose[i + 1 :]:
                union = _union(a, b)
                if _gap(a, b) < near and not any(iou(union, d) > 0.02 for d in dense):
                    loose = [o for o in loose if o not in (a, b)] + [union]
                    has_merged = True
                    break
            if has_merged:
                break
    return dense + loose


def _drop_slight(boxes: list[Box], side: int, s: CutSettings) -> list[Box]:
    """Without boxes too small to be panels beside the largest one."""
    largest = max((b[2] - b[0]) * (b[3] - b[1]) for b in boxes)
    large = [
        b
        for b in boxes
        if min(b[2] - b[0], b[3] - b[1]) >= s.min_panel * side * 0.6 and (b[2] - b[0]) * (b[3] - b[1]) >= 0.03 * largest
    ]
    return large or boxes


def _gap(a: Sequence[float], b: Sequence[float]) -> float:
    """Distance between two boxes, 0 when they touch."""
    return float(max(0, b[0] - a[2], a[0] - b[2]) + max(0, b[1] - a[3], a[1] - b[3]))


def _grid(grey: np.ndarray, count: int, least: float, s: CutSettings) -> list[Box]:
    """The cells of a grid of `count` charts of a like size, cut along the widest gutters near where a grid has them; empty where
    there is no such grid."""
    frame = _trim(grey, (0, 0, grey.shape[1], grey.shape[0]), s)
    if frame is None:
        return []
    x1, y1, x2, y2 = frame
    region = grey[y1:y2, x1:x2]
    rows, columns = _gutters(region, s, max(grey.shape)), _gutters(region.T, s, max(grey.shape))
    grids: list[tuple[int, list[Box]]] = []
    for across in (n for n in range(1, count + 1) if count % n == 0):
        xs, ys = _edges(columns, across, x2 - x1), _edges(rows, count // across, y2 - y1)
        if not xs or not ys:
            continue
        cells = [_trim(grey, (x1 + a, y1 + c, x1 + b, y1 + d), s) for c, d in ys for a, b in xs]
        boxes = [c for c in cells if c is not None and min(c[2] - c[0], c[3] - c[1]) >= least]
        areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in boxes]
        if len(boxes) == count and max(areas) <= LIKE_SIZE * min(areas):
            widths = [b[0] - a[1] for edges in (xs, ys) for a, b in itertools.pairwise(edges)]
            grids.append((min(widths, default=0), boxes))
    return max(grids, key=lambda grid: grid[0])[1] if grids else []


def _edges(gutters: Sequence[tuple[int, int]], count: int, length: int) -> list[tuple[int, int]]:
    """From and to of `count` stretches of a length, parted at the widest gutter near each even division; empty without one."""
    cuts: list[tuple[int, int]] = []
    for n in range(1, count):
        near = [g for g in gutters if abs((g[0] + g[1]) / 2 - n * length / count) <= 0.2 * length / count]
        if not near:
            return []
        cuts.append(max(near, key=lambda g: g[1] - g[0]))
    places = [0, *(place for cut in cuts for place in cut), length]
    return list(zip(places[::2], places[1::2], strict=True))


def _union(a: Box, b: Box) -> Box:
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])


def _inside(a: Sequence[float], b: Sequence[float]) -> bool:
    return a[0] >= b[0] and a[1] >= b[1] and a[2] <= b[2] and a[3] <= b[3]


def reading_order(boxes: Sequence[Box]) -> list[Box]:
    """Boxes by rows from the top, within a row from the left. Boxes that overlap by half their height share a row."""
    left, ordered = sorted(boxes, key=lambda b: (b[1], b[0])), []
    while left:
        top = left[0]
        row = [b for b in left if min(b[3], top[3]) - max(b[1], top[1]) > 0.5 * min(b[3] - b[1], top[3] - top[1])]
        ordered += sorted(row, key=lambda b: b[0])
        left = [b for b in left if b not in row]
    return ordered


class OnnxDetector:
    """The ONNX export of the paper's YOLOv7-tiny (one class, 512 px), or a detector with the same output.

    Output rows: either (x1, y1, x2, y2, score, …) or YOLO's (cx, cy, w, h, objectness, class scores …), in px of the input.
    """

    def __init__(self, path: Path | str, *, size: int = 512, confidence: float = 0.9, overlap: float = 0.5) -> None:
        path = Path(path)
        self.session = open_foreign(path)
        self.size, self.confidence, self.overlap, self.version = size, confidence, overlap, f"onnx:{path.stem}"

    def cut(self, picture: np.ndarray, named: int = 0) -> tuple[list[Panel], list[Box]]:
        """Panels by the network; small things by the gutters, which find what is printed between panels."""
        return self(picture), CutDetector().cut(picture)[1]

    def __call__(self, picture: np.ndarray) -> list[Panel]:
        import cv2
        import numpy as np

        height, width = picture.shape[:2]
        scale = self.size / max(height, width)
        resized = cv2.resize(picture, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_LINEAR)
        canvas = np.full((self.size, self.size, 3), 114, np.uint8)
        top, left = (self.size - resized.shape[0]) // 2, (self.size - resized.shape[1]) // 2
        canvas[top : top + resized.shape[0], left : left + resized.shape[1]] = resized
        pixels = canvas.astype(np.float32).transpose(2, 0, 1)[None] / 255
        rows = np.asarray(self.session.run(None, {self.session.get_inputs()[0].name: pixels})[0])
        rows = rows.reshape(-1, rows.shape[-1])
        boxes = [_back(r, scale, left, top, width, height) for r in _corners(rows) if r[4] >= self.confidence]
        apart: list[Panel] = []
        for panel in sorted(boxes, key=lambda p: -p.score):
            if all(iou(panel.box, k.box) < self.overlap for k in apart):
                apart.append(panel)
        return apart or [Panel(box=(0.0, 0.0, float(width), float(height)), score=0.0)]


def _corners(rows: np.ndarray) -> np.ndarray:
    """YOLO rows (centre, size, objectness, classes) as corners and one score; rows that are corners already stay."""
    import numpy as np

    ordered = bool(len(rows)) and bool((rows[:, 2] > rows[:, 0]).all() and (rows[:, 3] > rows[:, 1]).all())
    if rows.shape[1] == 5 or (rows.shape[1] != 6 and ordered):
        return rows[:, :5]
    score = rows[:, 4] * (rows[:, 5:].max(axis=1) if rows.shape[1] > 5 else 1)
    half = rows[:, 2:4] / 2
    corners: np.ndarray = np.column_stack([rows[:, :2] - half, rows[:, :2] + half, score])
    return corners


def _back(row: np.ndarray, scale: float, left: int, top: int, width: int, height: int) -> Panel:
    x1, y1, x2, y2 = ((float(row[i]) - (left, top)[i % 2]) / scale for i in range(4))
    return Panel(box=(max(0.0, x1), max(0.0, y1), min(float(width), x2), min(float(height), y2)), score=float(row[4]))


def with_letters(panels: Sequence[Panel], letters: Sequence[str]) -> list[Panel]:
    """The panels with their printed letters set."""
    return [replace(p, letter=x) for p, x in zip(panels, letters, strict=True)]
