"""What every CSV of marks on pictures has in common: the columns image and label, some numbers, perhaps a split. Knows no room.

Pictures without a mark appear with an empty label.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

from pathasst.core.errors import BadDataset

Marks = dict[str, tuple[str, list[tuple[tuple[float, ...], str]]]]
"""Image → its split, and the numbers and the label of each mark."""


def read_marks(file: Path, numbers: Sequence[str]) -> Marks:
    """The marks of each image of a CSV with the columns `image`, `label` and `numbers`; `split` may be there.

    Raises BadDataset for a file that is missing, lacks a column, or has something else where a number should be.
    """
    columns = ["image", *numbers, "label"]
    if not file.is_file():
        raise BadDataset(f"there is no {file}; it is a CSV with the columns {', '.join(columns)}.")
    by_image: Marks = {}
    with file.open(newline="", encoding="utf-8") as source:
        reader = csv.DictReader(source)
        if missing := set(columns) - set(reader.fieldnames or ()):
            raise BadDataset(f"{file} lacks the columns {sorted(missing)}")
        for row in reader:
            _, marks = by_image.setdefault(row["image"], (row.get("split") or "", []))
            if not row["label"]:
                continue
            try:
                marks.append((tuple(float(row[k]) for k in numbers), row["label"]))
            except (TypeError, ValueError) as error:
                raise BadDataset(f"{file} line {reader.line_num}: {error}") from error
    return by_image


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
