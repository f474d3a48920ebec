"""One tool over many pictures: a CSV of numbers, a JSON file and pictures for each. Knows files, not what a tool does.

A picture that cannot be used costs its own row, which says why; the others go on. Pictures that are done are not done again.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pathasst.core.errors import BadInput, PathAsstError
from pathasst.core.records import ToolCall, ToolResult, to_row
from pathasst.imaging.pictures import load
from pathasst.imaging.slides import is_slide, read_region
from pathasst.tools.protocol import SCALE, Tool

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".jp2")


@dataclass(frozen=True, slots=True)
class Done:
    """One row of a batch: the file and what came of it."""

    name: str
    result: ToolResult
    skipped: bool = False  # it was done by an earlier run


def find_pictures(folder: Path, out: Path | None = None) -> list[Path]:
    """Pictures and slides in a folder and below, sorted, but for those in `out`. Raises BadInput when there are none."""
    if not folder.is_dir():
        raise BadInput(f"{folder} is no folder; one picture alone goes through `pathasst tools run`.")
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES or is_slide(p))
    if out is not None:  # our own drawings, where the answers lie within the folder
        found = [p for p in found if out.resolve() not in p.resolve().parents]
    if not found:
        raise BadInput(f"{folder} holds no pictures ({', '.join(SUFFIXES)} or slides).")
    return found


def run_one(
    tool: Tool[Any], path: Path, arguments: dict[str, Any], region: tuple[int, int, int, int] | None = None, level: int = 0
) -> ToolResult:
    """One call on one file; a slide's scale is passed to tools that take it. Errors come back in `ToolResult.error`.

    Of a slide `numbers` say which part it was: annotations are in px of that part, not in the slide's.
    """
    image, part = None, None
    try:
        if tool.needs_image and (is_slide(path) or region is not None):
            part = read_region(path, region, level)
            image = part.image
        elif tool.needs_image:
            image = load(path)
    except PathAsstError as error:
        return ToolResult(name=tool.name, error=str(error))
    note = ""
    if part and SCALE not in arguments:
        arguments, note = tool.scaled(arguments, part.um_per_px)
    result = tool(ToolCall(name=tool.name, arguments=arguments), image)
    if note:
        result = replace(result, warnings=[*result.warnings, f"{note}."])
    if part is None or result.error:
        return result
    where = {"region": list(part.box), "level": level, "um_per_px": arguments.get(SCALE) or part.um_per_px}
    return replace(result, numbers={**result.numbers, **where})


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


def run_folder(tool: Tool[Any], folder: Path, out: Path, arguments: dict[str, Any]) -> Iterator[Done]:
    """Run a tool over a folder, yielding each file as it is done; then `results.csv` lies in `out`, beside folders like its.

    Raises BadInput for a folder without pictures and for a tool that looks at none.
    """
    if not tool.needs_image:
        raise BadInput(f"{tool.name} looks at no picture: there is nothing to do in a folder of them.")
    rows: list[Done] = []
    for path in find_pictures(folder, out):
        name = path.relative_to(folder)
        key = json.dumps({"arguments": arguments, "picture": [path.stat().st_size, path.stat().st_mtime_ns]}, sort_keys=True)
        there, asked = out / name.parent, out / name.parent / f"{name.name}.asked.json"
        earlier = _earlier(there / f"{name.name}.json", asked, key, tool)
        if earlier is None:
            result = run_one(tool, path, arguments)
            if not result.error:
                save(result, there, name.name)  # the suffix stays: a.png and a.jpg are two pictures
                asked.write_text(key, encoding="utf-8")
            rows.append(Done(name.as_posix(), result))
        else:
            rows.append(Done(name.as_posix(), earlier, skipped=True))
        yield rows[-1]
    write_csv(rows, out / "results.csv")


def _earlier(file: Path, asked: Path, key: str, tool: Tool[Any]) -> ToolResult | None:
    """The result of an earlier run on the same picture with the same weights and arguments."""
    if not file.is_file() or not asked.is_file() or asked.read_text(encoding="utf-8") != key:
        return None
    row = json.loads(file.read_text(encoding="utf-8"))
    if row["name"] != tool.name or row["version"] != tool.version_or_empty():
        return None
    known = ("name", "version", "text", "numbers", "seconds", "warnings", "notice")
    return ToolResult(**{name: row[name] for name in known if name in row})


def write_csv(rows: Iterable[Done], file: Path) -> None:
    """One line a picture: image, the numbers (lists and tables as JSON), seconds, error."""
    rows = list(rows)
    columns = list(dict.fromkeys(key for r in rows for key in r.result.numbers))
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as sink:
        writer = csv.writer(sink)
        writer.writerow(["image", *columns, "seconds", "version", "error"])
        for row in rows:
            values = [_cell(row.result.numbers.get(key)) for key in columns]
            writer.writerow([row.name, *values, f"{row.result.seconds:.3f}", row.result.version, row.result.error])


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value
