"""Counts of red cells as blood_cells gives them, beside its detector's fixed threshold, at home and in another laboratory.

    PATHASST_DATA=… python benchmarks/tools_counts.py [--chula FOLDER] [--cache FILE] [--json FILE]

At home: BCCD's public validation split, which trained nothing; the rule's shares were chosen on every second of its pictures, so
that the others are the test. Elsewhere: Chula-RBC-12 (MIT, github.com/Chula-PIC-Lab/Chula-RBC-12-Dataset, fetched by hand; the
rule's shares were looked at on it, too), of every sixth picture those with 50 labelled cells or more, since most pictures have a
few of their cells labelled; cells that the edge cuts are left out there, as its labels do. Intervals: 95 %, over pictures.
"""

from __future__ import annotations

import csv
import os
import pickle
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from measured import command_line, save

from pathasst.core.statistics import mean_interval
from pathasst.imaging.pictures import load
from pathasst.nn.detector.boxes import Boxes
from pathasst.tools import red_cells
from pathasst.tools.blood_cells import BloodCells, BloodCellsArguments

EVERY, SAMPLE = 6, 200  # of more than SAMPLE pictures every sixth
DENSE = 50  # labelled cells from which a picture of Chula counts as labelled throughout


@dataclass(frozen=True)
class Field:
    """What may be cells on a picture, its shape, how many red cells are labelled, and whether cut cells count."""

    candidates: Boxes
    shape: tuple[int, ...]
    labelled: int
    cut_count: bool


def home(tool: BloodCells, data: Path) -> list[Field]:
    """BCCD's validation split."""
    with (data / "bccd/boxes.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "val"]
    labelled = Counter(row["image"] for row in rows if row["label"] == "RBC")
    return [seen(tool, data / "bccd" / name, labelled[name], True) for name in dict.fromkeys(row["image"] for row in rows)]


def elsewhere(tool: BloodCells, folder: Path) -> list[Field]:
    """Every sixth picture of Chula that is labelled throughout."""
    fields = []
    files = sorted((folder / "Dataset").glob("*.jpg"))
    for file in files[:: EVERY if len(files) > SAMPLE else 1]:
        label = folder / "Label" / f"{file.stem}.txt"
        lines = label.read_text().splitlines() if label.is_file() else []
        points = [[float(v) for v in line.split()[:2]] for line in lines if line.strip()]
        if len(points) >= DENSE:
            field = seen(tool, file, len(points), False)
            boxes = field.candidates.take((field.candidates.classes == 1) & (field.candidates.scores >= red_cells.SURE)).xyxy
            half = 0.7 * float(np.median(np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)))) / 2
            height, width = field.shape[:2]
            whole = sum(half < x < width - half and half < y < height - half for x, y in points)
            fields.append(Field(field.candidates, field.shape, whole, False))
    return fields


def seen(tool: BloodCells, file: Path, labelled: int, cut_count: bool) -> Field:
    """The detector's candidates, as `run` looks."""
    image = load(file)
    return Field(tool.locate(image, BloodCellsArguments())[0], image.shape, labelled, cut_count)


def scores(fields: list[Field], classes: tuple[str, ...], fixed: float | None) -> dict[str, Any]:
    """Counted and labelled cells, their difference as a share, the mean error of a picture, how often its range holds."""
    red, white = classes.index("RBC"), classes.index("WBC")
    counts, held, widths = [], [], []
    for field in fields:
        boxes, (height, width) = field.candidates, field.shape[:2]
        if not field.cut_count:
            x1, y1, x2, y2 = boxes.xyxy.T
            edge = red_cells.CUT
            inside = (x1 > edge) & (y1 > edge) & (x2 < width - edge) & (y2 < height - edge)
        else:
            inside = np.ones(len(boxes), bool)
        counted = red_cells.counted(boxes, red, white, field.shape)
        if fixed is not None or counted is None:
            mask = (boxes.classes == red) & (boxes.scores >= (fixed or red_cells.SURE))
            counts.append(int((mask & inside).sum()))
            continue
        counts.append(int((counted[0] & inside).sum()))
        low, high = counted[1]
        held.append(low <= field.labelled <= high)
        widths.append(high - low)
    labelled = np.array([f.labelled for f in fields])
    errors = np.abs(np.array(counts) - labelled)
    return {
        "pictures": len(fields),
        "labelled": int(labelled.sum()),
        "counted": int(sum(counts)),
        "off by": float(sum(counts) / labelled.sum() - 1),
        "error a picture": mean_interval(errors.astype(float).tolist(), list(range(len(fields)))),
        **({"range holds": float(np.mean(held)), "range is wide": float(np.mean(widths))} if held else {}),
    }


def main() -> None:
    """Measure and print."""
    parser = command_line(__doc__)
    parser.add_argument("--chula", type=Path, help="folder of Chula-RBC-12, with Dataset and Label")
    parser.add_argument("--cache", type=Path, help="file of the candidates")
    options = parser.parse_args()
    tool = BloodCells()
    if options.cache and options.cache.is_file():
        parts = pickle.loads(options.cache.read_bytes())
    else:
        fields = home(tool, Path(os.environ["PATHASST_DATA"]))
        parts = {"home, chosen on": fields[::2], "home, test": fields[1::2]}
        if options.chula:
            parts["Chula"] = elsewhere(tool, options.chula)
        if options.cache:
            options.cache.write_bytes(pickle.dumps(parts))
    classes = tuple(tool.detector.settings.classes)
    values = {
        name: {"rule": scores(fields, classes, None), "fixed at 0.5": scores(fields, classes, 0.5)}
        for name, fields in parts.items()
    }
    for name, rules in values.items():
        for rule, found in rules.items():
            print(name, rule, {k: round(v, 3) if isinstance(v, float) else str(v) for k, v in found.items()})
    save(options.json, values)


if __name__ == "__main__":
    main()
