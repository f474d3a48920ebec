"""What every CSV of marks on pictures has in common: the columns image and label, some numbers, perhaps a split. Knows no room.

Pictures without a mark appear with an empty label.
"""

from __future__ import annotations

import csv
import math
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pathasst.core.errors import BadDataset
from pathasst.core.tables import read_table

IMAGE = ("image", "filename", "file_name", "image_name", "image_path", "path", "file")
LABEL = ("label", "class", "class_name", "category")
_DECIMAL_COMMA = re.compile(r"\A(\s*[-+]?\d+),(\d+\s*)\Z")
Marks = dict[str, tuple[str, list[tuple[tuple[float, ...], str]]]]
"""Image → its split, and the numbers and the label of each mark."""


def read_marks(file: Path, numbers: Sequence[str]) -> Marks:
    """The marks of each image of a CSV with the columns `image`, `label` and `numbers`; `split` may be there.

    Others call the image `filename` or `path`, and the label `class`: taken as well, and so are decimal commas.

    A row with something else where a number should be is left out, counted in a warning. Raises BadDataset for a file that is
    missing, lacks a column, or has no row with numbers among those with labels.
    """
    columns = ["image", *numbers, "label"]
    if not file.is_file():
        raise BadDataset(f"there is no {file}; it is a CSV with the columns {', '.join(columns)}.")
    by_image: Marks = {}
    left_out: Counter[str] = Counter()
    try:
        names, rows = read_table(file)
        keys = {n.lower() for n in names}
        of_image, of_label = (next((n for n in aliases if n in keys), aliases[0]) for aliases in (IMAGE, LABEL))
        if missing := {*columns[1:-1], of_image, of_label} - keys:
            raise BadDataset(f"{file} lacks the columns {sorted(missing)}; it has {', '.join(names) or 'none'}.")
        fault = ""
        for line, row in rows:
            _, marks = by_image.setdefault(row[of_image].strip(), (row.get("split") or "", []))
            if not (label := (row.get(of_label) or "").strip()):
                continue
            try:
                mark = tuple(float(_DECIMAL_COMMA.sub(r"\1.\2", row[k])) for k in numbers), label
            except (KeyError, TypeError, ValueError) as error:
                fault = fault or f"line {line}: {error}"
                left_out["with something else where a number should be"] += 1
                continue
            if mark in marks:
                left_out["duplicate"] += 1
            elif all(map(math.isfinite, mark[0])):
                marks.append(mark)
            else:
                left_out["not a number"] += 1
    except (OSError, csv.Error) as error:
        raise BadDataset(f"{file} cannot be read: {error}") from error
    if fault and not any(marks for _, marks in by_image.values()):
        raise BadDataset(f"{file}: no row has numbers in {', '.join(numbers)}; {fault}")
    warn_left_out(file, left_out)
    return by_image


def warn_left_out(file: Path, left_out: Counter[str], things: str = "annotations") -> None:
    """One warning with what a reader of labels left out, and why."""
    if left_out.total():
        what = ", ".join(f"{n} {reason}" for reason, n in left_out.most_common() if n)
        warnings.warn(f"{file.name}: {left_out.total()} {things} are left out: {what}", stacklevel=3)


def group_of(name: str, pattern: str) -> str:
    """The patient or slide that a file name tells of: the pattern's first group; without a pattern, the name itself.

    Raises BadDataset for a name that the pattern does not fit.
    """
    if not pattern:
        return name
    match = re.search(pattern, name)
    if not match:
        raise BadDataset(f"the file name {name!r} does not match the group pattern {pattern!r}")
    return match.group(1)
