"""Micrometres per pixel of a slide: from the file, from the user, or unknown; an absurd one is not believed."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from pathasst.core.errors import BadInput, BadSettings
from pathasst.imaging.scales import COARSEST, FINEST, Scale

UNEVEN = 0.05
"""Relative difference of the two axes from which the scale is reported as uneven."""


def judge(stated: tuple[float, float] | None, mpp: float | None = None) -> Scale:
    """The scale from what the file states (x, y) and what the user gives, which wins. Raises BadSettings for an absurd `mpp`."""
    if mpp is not None:
        if not FINEST <= mpp <= COARSEST:
            raise BadSettings(
                f"{mpp:g} µm/px cannot be a slide's finest level: give a value between {FINEST:g} and {COARSEST:g}."
            )
        note = ""
        if stated and not 0.9 <= mpp / (sum(stated) / 2) <= 1.1:
            note = f"the file states {sum(stated) / 2:.4g} µm/px"
        return Scale(mpp, "user", note)
    if stated is None:
        return Scale(note="the file states no scale; give it with --mpp")
    mean = sum(stated) / 2
    if not all(FINEST <= value <= COARSEST for value in stated):
        return Scale(note=f"the file states {mean:.4g} µm/px, which is not believed; give it with --mpp")
    uneven = abs(stated[0] - stated[1]) > UNEVEN * mean
    return Scale(mean, "file", f"{stated[0]:.4g} across and {stated[1]:.4g} down: the pixels are not square" if uneven else "")


def read_scales(file: Path, columns: Sequence[str] = ("slide", "mpp")) -> dict[str, float]:
    """File name → µm/px, from the columns `slide` and `mpp` of a CSV; rows with an empty `mpp` are left out.

    Raises BadInput for a missing file or column and for a value that is no number.
    """
    if not file.is_file():
        raise BadInput(f"{file} is not there.")
    with file.open(newline="", encoding="utf-8-sig") as source:
        reader = csv.DictReader(source)
        if missing := set(columns) - set(reader.fieldnames or ()):
            raise BadInput(f"{file} lacks the columns {sorted(missing)}; it has {reader.fieldnames}.")
        name, value = columns
        scales = {}
        for row in reader:
            if not (row[value] or "").strip():
                continue
            try:
                scales[Path(row[name]).name] = float(row[value])
            except ValueError:
                raise BadInput(f"{file} line {reader.line_num}: {row[value]!r} is no number of µm per px.") from None
    return scales
