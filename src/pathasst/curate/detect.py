"""Panels by gutters and a trained detector together: the gutters are exact where there are any, the network sees where not.

Knows pixel arrays and `pathasst.nn.detector`. What the gutters leave whole and the network sees as several panels is split; what
they tore and the network sees as one is joined; all else stays as the gutters have it. Printed letters that the network sees are
passed on as places to read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pathasst.core import weights
from pathasst.core.records import Panel
from pathasst.curate.panels import Box, Cut, CutDetector, OnnxDetector, PanelFinder, reading_order
from pathasst.imaging.boxes import iou

if TYPE_CHECKING:
    import numpy as np

    from pathasst.nn.detector.infer import Detector

EMBEDDED = "panels-embedded"


@dataclass(frozen=True, slots=True)
class JoinSettings:
    """When the network overrules the gutters. Shares of areas."""

    inside: float = 0.85  # of a box that must lie in the one it is part of
    covered: float = 0.6  # of a gutter panel that its parts must cover to replace it
    sure: float = 0.5  # least score of a box that joins what the gutters tore, or parts what they left whole
    least: float = 0.15  # of one that parts where the caption names more panels than are seen
    same: float = 0.75  # IoU of a box with the whole of the pieces that it joins


class LearnedDetector:
    """Gutters refined by a detector with the classes panel and letter.

    Gutters that part as many panels as the caption names are believed as they are. Where it names more than both find, that many
    are looked for: among what the network is less sure of, and along seams. Where it names fewer, the network alone must see as
    many: one letter may stand for a row.
    """

    def __init__(self, network: Detector, version: str = "", settings: JoinSettings | None = None) -> None:
        self.network, self.settings, self.gutters = network, settings or JoinSettings(), CutDetector()
        self.version = f"{self.gutters.version}+{version or 'detector'}"

    def __call__(self, picture: np.ndarray) -> list[Panel]:
        return self.cut(picture)[0]

    def cut(self, picture: np.ndarray, named: int = 0) -> tuple[list[Panel], list[Box]]:
        """Panels in reading order, and boxes of small things (letters, words), in px of H×W×3 uint8 RGB."""
        cut = self.gutters.along_gutters(picture)
        panels, small = self.gutters.parted(cut)
        if len(panels) == named > 1:
            return panels, small
        detections = self.network.detect([picture], min_score=self.settings.least)[0]
        rows = list(zip(detections.xyxy.tolist(), detections.scores.tolist(), detections.classes.tolist(), strict=True))
        detected = [Panel(box=(b[0], b[1], b[2], b[3]), score=score) for b, score, kind in rows if kind == 0]
        letters = [_widened(b) for b, score, kind in rows if kind == 1 and score >= self.network.settings.min_score]
        small = small + [b for b in letters if all(iou(b, s) < 0.3 for s in small)]
        return self._join(cut, panels, detected, named), small

    def _join(self, cut: Cut, panels: Sequence[Panel], detected: Sequence[Panel], named: int) -> list[Panel]:
        """The panels of the gutters (`panels`) and of the network (`detected`, the unsure ones, too) together."""
        s, picture = self.settings, cut.picture
        sure = [p for p in detected if p.score >= s.sure]
        merged = combine(panels, sure, s, picture)
        if named in (0, len(merged)):
            return merged
        if named < len(merged):
            charts = self.gutters.parted(cut, named)[0] if named > 1 else []
            return next((way for way in (_best(sure), charts) if len(way) == named), merged)
        ways = (combine(panels, detected, s, picture), _best(detected, named))
        detections = next((way for way in ways if len(way) == named), None)
        return detections or max(merged, self.gutters.parted(cut, named)[0], key=len)


def _best(detected: Sequence[Panel], most: int | None = None) -> list[Panel]:
    """The surest boxes that do not overlap, in reading order."""
    return in_order(_without_nested(detected)[:most])


def combine(gutters: Sequence[Panel], detected: Sequence[Panel], s: JoinSettings, picture: np.ndarray) -> list[Panel]:
    """The panels of both, in reading order."""
    panels: list[Panel] = []
    for panel in gutters:
        panels += _parts(panel, detected, s, picture) or [panel]
    for box in sorted(detected, key=lambda p: -p.score):
        pieces = [p for p in panels if _share(p.box, box.box) >= s.inside]
        if len(pieces) < 2 or box.score < s.sure or iou(_union(pieces), box.box) < s.same:
            continue
        if any(iou(p.box, o.box) >= 0.6 for p in pieces for o in detected if o is not box):
            continue  # the network sees the pieces, too
        panels = [p for p in panels if p not in pieces] + [Panel(box=_union(pieces), score=box.score)]
    return in_order(panels)


def in_order(panels: Sequence[Panel]) -> list[Panel]:
    """Panels by rows from the top, within a row from the left."""
    order = {b: n for n, b in enumerate(reading_order([_rounded(p.box) for p in panels]))}
    return sorted(panels, key=lambda p: order[_rounded(p.box)])


def _parts(panel: Panel, detected: Sequence[Panel], s: JoinSettings, picture: np.ndarray) -> list[Panel]:
    """The panels that the network sees in one of the gutters', snapped to edges; none where it is one to the network, too."""
    area = _area(panel.box)
    inside = [p for p in detected if _share(p.box, panel.box) >= s.inside and _area(p.box) < 0.85 * area]
    inside = _without_nested(inside)
    if len(inside) < 2 or sum(_area(p.box) for p in inside) < s.covered * area:
        return []
    whole_score = max((p.score for p in detected if iou(p.box, panel.box) >= 0.8), default=0.0)
    if whole_score > sum(p.score for p in inside) / len(inside):
        return []
    return [Panel(box=snap(p.box, panel.box, picture), score=p.score) for p in inside]


def _without_nested(panels: Sequence[Panel]) -> list[Panel]:
    """Without boxes that lie in, or overlap with, a better one."""
    apart: list[Panel] = []
    for panel in sorted(panels, key=lambda p: -p.score):
        if all(_common(panel.box, k.box) < 0.2 * min(_area(panel.box), _area(k.box)) for k in apart):
            apart.append(panel)
    return apart


def snap(box: Sequence[float], frame: Sequence[float], picture: np.ndarray) -> tuple[float, float, float, float]:
    """The box with each edge moved to the frame's where that is near, else to the strongest straight edge close by."""
    import numpy as np

    sides = list(box)
    for k in range(4):
        axis = k % 2
        reach = 0.03 * (frame[axis + 2] - frame[axis])
        if abs(sides[k] - frame[k]) <= 1.5 * reach:
            sides[k] = frame[k]
            continue
        other = 1 - axis
        low, high = int(max(0, sides[k] - reach)), int(min(picture.shape[1 - axis], sides[k] + reach + 1))
        a, b = int(max(0, box[other])), int(box[other + 2])
        strip = picture[a:b, low:high] if axis == 0 else picture[low:high, a:b].swapaxes(0, 1)
        if strip.shape[0] < 4 or strip.shape[1] < 3:
            continue
        steps = np.median(abs(np.diff(strip.astype(np.int16), axis=1)).max(axis=2), axis=0)
        if steps.max() >= 12:
            sides[k] = low + int(steps.argmax()) + 1
    return float(sides[0]), float(sides[1]), float(sides[2]), float(sides[3])


def load_detector(source: str) -> PanelFinder:
    """`xycut`, the ONNX file of a detector, a folder that `pathasst train panels` made, or a registry id.

    Raises MissingWeights when nothing is there, BadInput when the files are no detector.
    """
    if source == "xycut":
        return CutDetector()
    path = Path(source)
    if path.suffix == ".onnx":
        return OnnxDetector(path)
    from pathasst.curate import onnx

    folder = path if path.is_dir() else weights.path(source)
    return LearnedDetector(onnx.detector(folder), path.name if path.is_dir() else weights.version(source))


def _area(box: Sequence[float]) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def _common(a: Sequence[float], b: Sequence[float]) -> float:
    return _area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))


def _share(part: Sequence[float], frame: Sequence[float]) -> float:
    return _common(part, frame) / max(_area(part), 1e-9)


def _union(panels: Sequence[Panel]) -> tuple[float, float, float, float]:
    boxes = [p.box for p in panels]
    return min(b[0] for b in boxes), min(b[1] for b in boxes), max(b[2] for b in boxes), max(b[3] for b in boxes)


def _rounded(box: Sequence[float]) -> Box:
    return int(box[0]), int(box[1]), int(box[2]), int(box[3])


def _widened(box: Sequence[float]) -> Box:
    """A letter's box with a little air, which OCR wants."""
    return int(box[0]) - 2, int(box[1]) - 2, int(box[2]) + 3, int(box[3]) + 3
