"""A run's log: `log.jsonl` line by line, `log.csv` and `curves.png` made of it, trackers if named. Knows numbers alone."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from pathasst.core.files import write_atomic

LINES, TABLE, PICTURE = "log.jsonl", "log.csv", "curves.png"
NOT_DRAWN = ("step", "seconds", "lr")


def read(out: Path) -> list[dict[str, Any]]:
    """The lines of a run's log; a last line that a kill cut off is left out."""
    path = out / LINES
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def rewind(out: Path, step: int) -> None:
    """Drop the lines after `step`: these steps are done again."""
    lines = [json.dumps(line, ensure_ascii=False) + "\n" for line in read(out) if line["step"] <= step]
    write_atomic(out / LINES, "".join(lines).encode())


def append(out: Path, line: dict[str, Any]) -> None:
    """Add one line."""
    with (out / LINES).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")


def write_table(out: Path) -> None:
    """`log.csv`: one row a line of the log, one column a value."""
    rows = read(out)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with (out / TABLE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def draw(out: Path) -> None:
    """`curves.png`: losses and scores over the steps, each kind on axes of its own."""
    from pathasst.core.plots import plot, png

    rows = read(out)
    names = [n for n in dict.fromkeys(name for row in rows for name in row) if n not in NOT_DRAWN]
    losses = [n for n in names if any(n in row and "lr" in row for row in rows)]
    panels = {label: some for label, some in (("loss", losses), ("val", [n for n in names if n not in losses])) if some}
    if not panels:
        return
    parts = plot(5 * len(panels), 3.6, len(panels))
    for axes, (label, some) in zip(parts, panels.items(), strict=True):
        for name in some:
            points = [(row["step"], row[name]) for row in rows if name in row]
            axes.plot(*zip(*points, strict=True), label=name, marker="." if label == "val" else None)
        axes.set(xlabel="step", ylabel=label)
        axes.legend(frameon=False)
    write_atomic(out / PICTURE, png(parts[0]))
