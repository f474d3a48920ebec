"""A tool's model against labels of the user's own, by its field's measure. Knows who measures, not how a model was made.

Boxes: average precision; points: F1 within 12 px and the labelling index; classes: F1 and accuracy; masks: IoU and Dice of what a
box or a point asks for; nuclei: F1 at an IoU of 0.5, PQ, AJI and the count; with 95 % intervals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pathasst.core.errors import BadSettings
from pathasst.core.statistics import Interval
from pathasst.tools.boxing import BoxTool
from pathasst.tools.cells.detect import CellTool
from pathasst.tools.he_nuclei import HeNuclei, segmenter
from pathasst.tools.lbc_classify import GRADE_OF, GRADES, LbcClassify, is_cell
from pathasst.tools.protocol import Tool
from pathasst.tools.segment import Segment


@dataclass(frozen=True, slots=True)
class ToolScores:
    """What was measured: a line on what and how much, a table as Markdown, all values for JSON, what could not be used."""

    title: str
    table: str
    values: dict[str, Any]
    skipped: Sequence[str] = ()


def measure(
    tool: Tool[Any], labels: Path, split: str = "", um_per_px: float | None = None, rename: Mapping[str, str] | None = None
) -> ToolScores:
    """Measure a tool on a labelled set: `boxes` CSV, COCO or YOLO; points CSV; a folder of classes, a CSV or Parquet table;
    masks as COCO JSON or a folder with `images` and `masks`.

    The tool looks as it does in `run`: at the scale that the picture or the user states, else at the one it reads from the
    picture, and for the classes that it may give.
    `split`: only pictures of this split, as the file names it. `um_per_px`: scale of all pictures. `rename`: the labels' classes
    by the tool's names.
    Raises BadSettings for a tool without labels to compare with or a split that is empty, BadDataset for an unreadable set.
    """
    if isinstance(tool, BoxTool):
        return _boxes(tool, labels, split, um_per_px, rename or {})
    if isinstance(tool, CellTool):
        if split:
            raise BadSettings("a CSV of points has no splits; give a CSV of the pictures that are to be measured.")
        return _points(tool, labels, um_per_px, rename or {})
    if isinstance(tool, LbcClassify):
        return _classes(tool, labels, split, rename or {})
    if isinstance(tool, Segment):
        return _masks(tool, labels, split)
    if isinstance(tool, HeNuclei):
        return _nuclei(tool, labels, um_per_px)
    raise BadSettings(f"{tool.name} cannot be measured by labels; the tools that box, count, classify or outline can.")


def _boxes(tool: BoxTool[Any], labels: Path, split: str, um_per_px: float | None, rename: Mapping[str, str]) -> ToolScores:
    from pathasst.imaging.pictures import read as read_picture
    from pathasst.nn.detector.data import read
    from pathasst.nn.detector.settings import DetectorData
    from pathasst.nn.detector.train import score

    settings = tool.detector.settings
    data = DetectorData(boxes=str(labels), classes={**{c: c for c in settings.classes}, **rename} if rename else {})
    pictures = [p for p in read(data, settings.classes) if p.split == (split or p.split)]
    _some(pictures, labels, split)
    scales = [
        tool.scale_for(p.pixels(), um_per_px or (read_picture(p.source).um_per_px if isinstance(p.source, Path) else None))
        for p in pictures
    ]
    scores = score(tool.detector, pictures, scales)
    title = f"{tool.version()}, {len(pictures)} pictures, score ≥ {settings.min_score:g} for F1 and counts"
    return ToolScores(title, scores.table(), asdict(scores))


def _points(tool: CellTool, labels: Path, um_per_px: float | None, rename: Mapping[str, str]) -> ToolScores:
    from pathasst.nn.p2pnet.data import read_fields
    from pathasst.nn.p2pnet.settings import PointData
    from pathasst.nn.p2pnet.train import score_fields
    from pathasst.tools.cells.detect import CellArguments, detector, scale_of

    model = detector(tool.model)
    fields = read_fields(PointData(points=str(labels), classes=dict(rename)), model.settings.classes)
    if not sum(len(f.points) for f in fields):
        raise BadSettings(f"{labels} labels no cell as {', '.join(model.settings.classes)}, which {tool.version()} tells apart.")
    arguments = [CellArguments(um_per_px=um_per_px or f.um_per_px) for f in fields]
    scales = [scale_of(f.image, a, model.settings.um_per_px) for f, a in zip(fields, arguments, strict=True)]
    scores = score_fields(model, fields, scales)
    rows = ["| class | F1 within 12 px | precision | recall |", "|---|---|---|---|"]
    for name in ("detection", *(c for c in model.settings.classes if c in scores)):
        one = scores[name]
        low, high = one["interval"]
        rows.append(f"| {name} | {one['f1']:.3f} [{low:.3f}, {high:.3f}] | {one['precision']:.3f} | {one['recall']:.3f} |")
    if error := scores["index_error"]:
        first = model.settings.classes[0]
        rows += [
            "",
            f"Share of {first} cells: mean error {error['mean']} points a picture, at most {error['max']}; "
            f"of all cells together {error['together']}.",
        ]
    between = f"{min(scales):.2f}" if max(scales) - min(scales) < 0.01 else f"{min(scales):.2f}–{max(scales):.2f}"
    title = f"{tool.version()}, {scores['fields']} pictures, {scores['cells']} cells, pictures scaled by {between}"
    return ToolScores(title, "\n".join(rows), scores)


def _classes(tool: LbcClassify, labels: Path, split: str, rename: Mapping[str, str]) -> ToolScores:
    from pathasst.nn.classifier.items import read_items, read_picture
    from pathasst.nn.classifier.training import measure as score

    items = [i for i in read_items(labels) if i.split == (split or i.split)]
    _some(items, labels, split)
    cell = is_cell(read_picture(items[0]))
    classes = tool.classes(cell)
    # Of the crop of one cell the shipped weights say a grade: a Bethesda class is then compared by its own.
    names = {**(GRADE_OF if classes == GRADES else {}), **rename}
    items = [replace(i, label=names.get(i.label, i.label)) for i in items]
    if unknown := {i.label for i in items} - set(classes):
        raise BadSettings(
            f"{labels} names the classes {', '.join(sorted(unknown))}; {tool.version()} knows {', '.join(classes)}."
        )
    scores = score(items, classes, tool.predict)
    rows = ["| class | pictures | F1 | precision | recall |", "|---|---|---|---|---|"]
    for name, one in scores.per_class.items():
        if one["n"]:
            rows.append(f"| {name} | {one['n']} | {one['f1']:.3f} | {one['precision']:.3f} | {one['recall']:.3f} |")
    rows += ["", f"Macro F1 {scores.macro_f1}, accuracy {scores.accuracy}, calibration error {scores.ece:.3f}."]
    return ToolScores(f"{tool.version()}, {scores.n} pictures of {scores.groups} groups", "\n".join(rows), scores.plain())


def _nuclei(tool: HeNuclei, labels: Path, um_per_px: float | None) -> ToolScores:
    from pathasst.nn.nuclei.data import read_fields
    from pathasst.nn.nuclei.settings import NucleiData
    from pathasst.nn.nuclei.train import measure as score
    from pathasst.nn.nuclei.train import table

    model = segmenter(tool.model)
    fields = read_fields(NucleiData(source=str(labels), um_per_px=um_per_px), model.settings)
    values = score(model, fields, scale_known=um_per_px is not None)
    scale = f"{um_per_px:g} µm/px" if um_per_px else "scale read from the pictures"
    return ToolScores(f"{tool.version()}, {values['pictures']} pictures, {scale}", table({labels.stem: values}), values)


def _masks(tool: Segment, labels: Path, split: str) -> ToolScores:
    from pathasst.nn.sam.masks import read_outlined, usable
    from pathasst.nn.sam.overlaps import overlaps

    pictures = [p for p in read_outlined(labels) if p.split == (split or p.split)]
    _some(pictures, labels, split)
    pictures, skipped = usable(pictures)
    values = overlaps(tool.sam, pictures).plain()
    title = f"{tool.version()}, {len(pictures)} pictures, {values['objects']} objects"
    return ToolScores(title, masks_table(values), {**values, "skipped": skipped}, skipped)


def masks_table(values: dict[str, Any]) -> str:
    """What `Overlaps.plain` gives, as Markdown."""
    cells = ((name, *(str(Interval(**values[name][k])) for k in ("iou", "dice"))) for name in ("box", "point"))
    return "\n".join(["| asked for by | IoU | Dice |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in cells)])


def _some(items: list[Any], labels: Path, split: str) -> None:
    if not items:
        raise BadSettings(f"{labels} has no pictures of the split {split!r}.")
