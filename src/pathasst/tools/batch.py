"""One tool over many pictures: a CSV of numbers, a JSON file and pictures for each. Knows files, not what a tool does.

A picture that cannot be used costs its own row, which says why; the others go on. Pictures that are done are not done again.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pathasst.core.errors import BadInput, PathAsstError
from pathasst.core.records import ToolCall, ToolResult, from_row, to_row
from pathasst.imaging import rle
from pathasst.imaging.picture_files import is_picture_file
from pathasst.imaging.pictures import MAX_PIXELS_OF_REGION, SUFFIXES, LoadedPicture, crop, read
from pathasst.imaging.slides import Region, is_slide, read_region
from pathasst.tools.exports import write_geojson
from pathasst.tools.protocol import SCALE, Tool


@dataclass(frozen=True, slots=True)
class FileResult:
    """One row of a batch: the file and what came of it."""

    name: str
    result: ToolResult
    skipped: bool = False  # it was done by an earlier run


def find_pictures(folder: Path, out: Path | None = None) -> list[Path]:
    """Pictures and slides in a folder and below, sorted, but for those in `out`. Raises BadInput when there are none."""
    if not folder.is_dir():
        raise BadInput(f"{folder} is no folder; one picture alone goes through `pathasst tools run`.")
    pictures = [p for p in _files(folder, out) if _is_picture(p)]
    if not pictures:
        others = ", ".join(f"{n} {suffix}" for suffix, n in passed_over(folder, out).items())
        raise BadInput(f"{folder} holds no pictures ({', '.join(SUFFIXES)} or slides), but {others or 'nothing'}.")
    return pictures


def passed_over(folder: Path, out: Path | None = None) -> dict[str, int]:
    """How many files of each suffix `find_pictures` leaves out."""
    return dict(Counter(p.suffix.lower() or "no suffix" for p in _files(folder, out) if not _is_picture(p)).most_common())


def _files(folder: Path, out: Path | None) -> list[Path]:
    """The files below a folder, dead links too, sorted; without those in `out`, our own drawings."""
    files = sorted(p for p in folder.rglob("*") if not p.is_dir())
    return [p for p in files if out is None or out.absolute() not in p.absolute().parents]


def _is_picture(path: Path) -> bool:
    return is_picture_file(path) or is_slide(path)


def run_one(
    tool: Tool[Any], path: Path, arguments: dict[str, Any], region: tuple[int, int, int, int] | None = None, level: int = 0
) -> ToolResult:
    """One call on one file. The file's own scale is passed to tools that take one, unless `arguments` have it.

    Errors come back in `ToolResult.error`; what the reader noted of the file stands in `ToolResult.warnings`. Of a region
    `numbers` say which part it was: annotations are in px of that part, not of the whole.
    """
    picture, part = None, None
    try:
        if tool.needs_image and (is_slide(path) or region is not None):
            part = _part(path, region, level)
        elif tool.needs_image:
            picture = read(path)
    except PathAsstError as error:
        return ToolResult(name=tool.name, error=str(error))
    scale = part.um_per_px if part else picture.um_per_px if picture else None
    source = part or picture
    notes = list(source.notes) if source else []
    if SCALE not in arguments:
        arguments, note = tool.scaled(arguments, scale)
        notes += [note] if note else []
    result = tool(ToolCall(name=tool.name, arguments=arguments), part.image if part else picture.pixels if picture else None)
    if notes:
        result = replace(result, warnings=[*result.warnings, *(f"{path.name}: {note}." for note in notes)])
    if part is None or result.error:
        return result
    where = {"region": list(part.box), "level": level, "um_per_px": arguments.get(SCALE) or scale}
    return replace(result, numbers={**result.numbers, **where})


def _part(path: Path, box: tuple[int, int, int, int] | None, level: int) -> Region:
    """A region of a slide, or of a picture that is none: a large JPEG, say. Raises BadInput."""
    if is_slide(path):
        return read_region(path, box, level)
    try:
        return read_region(path, box, level)
    except PathAsstError as error:
        try:
            picture: LoadedPicture = read(path, MAX_PIXELS_OF_REGION)
        except BadInput as unreadable:
            raise unreadable from error
    height, width = picture.pixels.shape[:2]
    x, y, w, h = box or (0, 0, width, height)
    if level or x < 0 or y < 0 or x + w > width or y + h > height:
        raise BadInput(f"the region {(x, y, w, h)} at level {level} does not lie within the {width}×{height} px of {path.name}.")
    return Region(
        np.ascontiguousarray(crop(picture.pixels, (x, y, x + w, y + h))), picture.um_per_px, (x, y, w, h), picture.notes
    )


def save(result: ToolResult, out: Path, stem: str) -> list[Path]:
    """Write `<stem>.json` (without picture bytes) and `<stem>.<picture>.png`; returns the files, JSON last."""
    out.mkdir(parents=True, exist_ok=True)
    files = []
    for picture in result.pictures:
        files.append(out / f"{stem}.{picture.name}.png")
        files[-1].write_bytes(picture.image)
    files.append(out / f"{stem}.json")
    files[-1].with_suffix(".json.new").write_text(as_json(result), encoding="utf-8")
    files[-1].with_suffix(".json.new").replace(files[-1])
    return files


def as_json(result: ToolResult) -> str:
    """A result as JSON, pictures by name only."""
    row = to_row(result)
    row["numbers"] = result.numbers
    row["pictures"] = [{"name": p.name, "synthetic": p.synthetic} for p in result.pictures]
    return json.dumps(row, ensure_ascii=False, indent=1)


def run_folder(
    tool: Tool[Any], folder: Path, out: Path, arguments: dict[str, Any], *, geojson: bool = False
) -> Iterator[FileResult]:
    """Run a tool over a folder, yielding each file as it is done.

    `out` gets `results.csv` (one row a picture) and `cells.csv` (one row an object, in px of its picture), both written as the
    pictures are done, and for each picture a JSON result, drawings and, with `geojson`, its objects for QuPath, in folders like
    those of `folder`.
    Raises BadInput for a folder without pictures and for a tool that looks at none.
    """
    if not tool.needs_image:
        raise BadInput(f"{tool.name} looks at no picture: there is nothing to do in a folder of them.")
    pictures = find_pictures(folder, out)
    out.mkdir(parents=True, exist_ok=True)
    results = ResultTable(out / "results.csv")
    with (out / "cells.csv").open("w", newline="", encoding="utf-8") as sink:
        cells = csv.writer(sink)
        cells.writerow(CELL_COLUMNS)
        for path in pictures:
            outcome = _run_file(tool, path, path.relative_to(folder), out, arguments)
            objects = out / f"{outcome.name}.geojson"
            if geojson and not outcome.result.error and not (outcome.skipped and objects.is_file()):
                write_geojson(outcome.result, path, objects)
            results.add(outcome)
            cells.writerows(_cell_rows(outcome))
            sink.flush()
            yield outcome


def _run_file(tool: Tool[Any], path: Path, name: Path, out: Path, arguments: dict[str, Any]) -> FileResult:
    try:
        stat = path.stat()
    except OSError as error:  # a dead link, a file that is gone
        return FileResult(name.as_posix(), ToolResult(name=tool.name, error=f"{name} cannot be read: {error.strerror or error}"))
    key = json.dumps({"arguments": arguments, "picture": [stat.st_size, stat.st_mtime_ns]}, sort_keys=True)
    folder, request = out / name.parent, out / name.parent / f"{name.name}.request.json"
    earlier = _earlier(folder / f"{name.name}.json", request, key, tool)
    if earlier is not None:
        return FileResult(name.as_posix(), earlier, skipped=True)
    result = run_one(tool, path, arguments)
    if not result.error:
        save(result, folder, name.name)  # the suffix stays: a.png and a.jpg are two pictures
        request.write_text(key, encoding="utf-8")
    return FileResult(name.as_posix(), result)


def _earlier(file: Path, request: Path, key: str, tool: Tool[Any]) -> ToolResult | None:
    """The result of an earlier run on the same picture with the same weights and arguments, without its drawings."""
    if not file.is_file() or not request.is_file() or request.read_text(encoding="utf-8") != key:
        return None
    row = json.loads(file.read_text(encoding="utf-8"))
    if row["name"] != tool.name or row["version"] != tool.version_or_empty():
        return None
    return from_row(ToolResult, {**row, "numbers": json.dumps(row["numbers"]), "pictures": []})


class ResultTable:
    """`results.csv`, whole on the disk after each row: image, the numbers (lists and tables as JSON), seconds, version, error."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.rows: list[FileResult] = []
        self.columns: list[str] = []

    def add(self, row: FileResult) -> None:
        """Append a row; one that brings new columns has the file written anew."""
        self.rows.append(row)
        new = [key for key in row.result.numbers if key not in self.columns]
        self.columns += new
        rows = self.rows if new or len(self.rows) == 1 else [row]
        with self.file.open("w" if rows is self.rows else "a", newline="", encoding="utf-8") as sink:
            writer = csv.writer(sink)
            if rows is self.rows:
                writer.writerow(["image", *self.columns, "seconds", "version", "error"])
            writer.writerows(self._values(row) for row in rows)

    def _values(self, row: FileResult) -> list[Any]:
        numbers = (_cell(row.result.numbers.get(key)) for key in self.columns)
        return [_cell(row.name), *numbers, f"{row.result.seconds:.3f}", row.result.version, _cell(row.result.error)]


CELL_COLUMNS = ("image", "object", "kind", "label", "x", "y", "x1", "y1", "x2", "y2", "score", "area_px")
"""Of `cells.csv`: x and y are the centre; points have no box, and only masks an area."""


def _cell_rows(outcome: FileResult) -> Iterator[list[Any]]:
    for n, a in enumerate(outcome.result.annotations, start=1):
        box = ["", "", "", ""] if a.kind == "point" else a.coordinates
        x, y = a.coordinates if a.kind == "point" else (sum(a.coordinates[::2]) / 2, sum(a.coordinates[1::2]) / 2)
        yield [
            _cell(outcome.name),
            n,
            a.kind,
            _cell(a.label),
            round(x, 1),
            round(y, 1),
            *box,
            a.score,
            rle.area(a.rle) if a.rle else "",
        ]


def _cell(value: Any) -> Any:
    """A value as a CSV cell: lists and tables as JSON; text that a spreadsheet would take for a formula gets an apostrophe."""
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
