"""ImageCLEF 2016 (medical): figures cut into panels, scored by the challenge's own rule beside ours. Knows its XML and a cutter.

The separation files are `<annotations><annotation><filename>…</filename><object><point x= y=/> × 4</object> …`. The challenge
counts a predicted panel as right when it shares at least two thirds of its own area with one true panel, each of which takes
one prediction; a figure's score is the number of right ones over the larger of both counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pathasst.core.errors import BadDataset, BadInput
from pathasst.core.statistics import mean_interval
from pathasst.evaluate.asking import bar
from pathasst.evaluate.leaderboard import Score
from pathasst.evaluate.predictions import key_of
from pathasst.evaluate.table import Table
from pathasst.imaging.boxes import area, intersection, iou
from pathasst.imaging.pictures import SUFFIXES, load

Box = tuple[float, float, float, float]
Cut = Callable[[np.ndarray], Sequence[Box]]
SHARE = 2 / 3
LAYOUT = "FigureSeparationTest2016GT.xml (annotation: filename, object with four points) and the figures, anywhere below"


def read_separation(folder: Path) -> dict[str, list[Box]]:
    """Figure → true panels x1 y1 x2 y2 px. Raises BadDataset, which says what was looked for."""
    from lxml import etree

    figures: dict[str, list[Box]] = {}
    paths = sorted(p for p in folder.rglob("*.xml")) if folder.is_dir() else []
    for path in paths:
        try:
            root = etree.fromstring(path.read_bytes(), etree.XMLParser(resolve_entities=False, no_network=True))
            for node in root.iter("annotation"):
                name = (node.findtext("filename") or "").strip()
                boxes = [
                    _box([(float(p.get("x", "")), float(p.get("y", ""))) for p in o.iter("point")]) for o in node.iter("object")
                ]
                if name and boxes:
                    figures[name] = boxes
        except (etree.XMLSyntaxError, ValueError) as error:
            raise BadDataset(f"{path} is no separation file of ImageCLEF ({LAYOUT}): {error}") from error
    if not figures:
        raise BadDataset(
            f"{folder} holds no figures of ImageCLEF. Expected: {LAYOUT}. Get it: https://www.imageclef.org/2016/medical (by "
            f"registration)."
        )
    return figures


def _box(points: Sequence[tuple[float, float]]) -> Box:
    if len(points) < 2:
        raise ValueError("an object with fewer than two points")
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def challenge_score(truth: Sequence[Box], predicted: Sequence[Box]) -> float:
    """ImageCLEF's score of one figure, 0…1 (see above). Predictions are taken in the order of their best overlap."""
    shares = np.array([[intersection(p, t) / max(area(p), 1e-9) for t in truth] for p in predicted]).reshape(
        len(predicted), len(truth)
    )
    free, right = set(range(len(truth))), 0
    for n in np.argsort(-shares.max(axis=1, initial=0), kind="stable"):
        best = max(free, key=lambda t: shares[n, t], default=None)
        if best is not None and shares[n, best] >= SHARE:
            free.remove(best)
            right += 1
    return right / max(len(truth), len(predicted), 1)


def exact(truth: Sequence[Box], predicted: Sequence[Box]) -> bool:
    """Our rule: as many panels as there are, and each true one met with IoU ≥ 0.5."""
    return len(truth) == len(predicted) and all(any(iou(t, p) >= 0.5 for p in predicted) for t in truth)


def evaluate(folder: Path, cutters: dict[str, Cut]) -> tuple[Table, list[Score]]:
    """Each way of cutting on the same figures. Figures without a picture, or with a broken one, are counted and left out."""
    truth = read_separation(folder)
    files = {p.stem: p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES}
    table = Table(
        id="imageclef",
        title="Figure separation, ImageCLEF 2016",
        columns=["cutter", "figures", "panels", "predicted", "challenge's accuracy", "figures exact (IoU 0.5)"],
        seed=0,
    )
    pictures: dict[str, np.ndarray] = {}
    for name in truth:
        try:
            pictures[name] = load(files[Path(name).stem])
        except (KeyError, BadInput):
            continue
    if not pictures:
        raise BadDataset(f"{folder}: none of the {len(truth)} annotated figures has its picture below it.")
    scores: list[Score] = []
    data = key_of([[n, truth[n]] for n in sorted(pictures)])[:16]
    for cutter, cut in cutters.items():
        with bar(cutter, len(pictures)) as progress:
            boxes = {}
            for name, picture in pictures.items():
                boxes[name] = list(cut(picture))
                progress(1)
        shares = [challenge_score(truth[n], boxes[n]) for n in pictures]
        exact_shares = [float(exact(truth[n], boxes[n])) for n in pictures]
        values = {"challenge's accuracy": mean_interval(shares), "figures exact": mean_interval(exact_shares)}
        panels = sum(len(truth[n]) for n in pictures)
        table.add(cutter, len(pictures), panels, sum(map(len, boxes.values())), *values.values())
        scores += [
            Score(task="ImageCLEF 2016", protocol=cutter, metric=m, value=v, n=len(pictures), data=data)
            for m, v in values.items()
        ]
        table.items += [
            {"model": cutter, "part": "challenge's accuracy", "id": n, "cluster": n, "score": s}
            for n, s in zip(pictures, shares, strict=True)
        ]
    if missing := len(truth) - len(pictures):
        table.notes.append(f"{missing} figures left out, since their picture is missing or cannot be read.")
    table.notes.append("95 % intervals, bootstrap by figure.")
    return table, scores


def our_cutter() -> Cut:
    """The panels of `pathasst curate`."""
    from pathasst.curate.panels import CutDetector

    detector = CutDetector()
    return lambda picture: [panel.box for panel in detector(picture)]


def whole_figure(picture: np.ndarray) -> list[Box]:
    """What needs no method: the figure is one panel."""
    return [(0.0, 0.0, float(picture.shape[1]), float(picture.shape[0]))]
