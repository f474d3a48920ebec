"""A result's numbers as tables to read, to copy and to download as CSV."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from pathasst.assistant.answer import ChatPicture
from pathasst.core.records import Annotation, ToolResult
from pathasst.serve.markup.words import escape, number, title_of

MAX_ROWS = 200
"""Rows shown of a table; the CSV holds all."""

FEW = 6
"""Values of a list that are written in one cell; longer lists get a table of their own."""

NAMES = {"scale": "Resized for the model (×)"}
"""Numbers whose own name would be taken for something else: a scale is µm per px to a pathologist."""

Row = Sequence[str]


def tables_html(result: ToolResult) -> str:
    """The result's numbers, what was counted by class, and every list of rows among its numbers."""
    single, lists = _split(result.numbers)
    parts = [table_html("Numbers", ("Quantity", "Value"), single, f"{result.name}_numbers")] if single else []
    counted = Counter(a.label for a in result.annotations)
    if counted:
        total = sum(counted.values())
        rows = [(label, str(n), f"{100 * n / total:.1f}") for label, n in counted.most_common()]
        parts.append(table_html("Counted by class", ("Class", "Count", "Share (%)"), rows, f"{result.name}_counts"))
    for name, listed in lists.items():
        columns = list(dict.fromkeys(key for row in listed for key in row))
        cells = [[number(row.get(c)) for c in columns] for row in listed]
        parts.append(table_html(title_of(name), [title_of(c) for c in columns], cells, f"{result.name}_{name}"))
    return "".join(parts)


def objects_html(result: ToolResult, picture: ChatPicture) -> str:
    """What was marked, one row each with its place in px and, where the scale is known, in µm; folded, with CSV and GeoJSON."""
    from pathasst.imaging.geojson import feature_collection
    from pathasst.imaging.pictures import read_header

    scale, marks = picture.um_per_px, result.annotations
    sized = any(mark.kind != "point" for mark in marks)
    rows = [_object_row(number, mark, scale, sized=sized) for number, mark in enumerate(marks, 1)]
    columns = ["Number", "Class", "Kind", "x (px)", "y (px)", *(["Width (px)", "Height (px)"] if sized else []), "Score"]
    columns += ["x (µm)", "y (µm)"] if scale else []
    header = read_header(picture.image)
    features = json.dumps(feature_collection(marks, (header.height, header.width)), separators=(",", ":"))
    data = base64.b64encode(features.encode()).decode()
    name = _file_name(f"{picture.name.rsplit('.', 1)[0]}_{result.name}")
    download = (
        f'<a class="pa-button" download="{name}.geojson" href="data:application/geo+json;base64,{data}">Download GeoJSON</a>'
    )
    return (
        f'<details class="pa-fold pa-objects"><summary>Each object ({len(rows)})</summary>'
        f"{table_html('Each object, by its place in the picture', columns, rows, f'{name}_objects', download)}</details>"
    )


def _object_row(number: int, mark: Annotation, um_per_px: float | None, *, sized: bool) -> list[str]:
    if mark.kind == "point":
        x, y = mark.coordinates[:2]
        size = ["", ""] if sized else []
    else:
        x1, y1, x2, y2 = mark.coordinates
        x, y, size = (x1 + x2) / 2, (y1 + y2) / 2, [f"{x2 - x1:.1f}", f"{y2 - y1:.1f}"]
    row = [str(number), mark.label, mark.kind, f"{x:.1f}", f"{y:.1f}", *size, f"{mark.score:.3f}"]
    return [*row, f"{x * um_per_px:.1f}", f"{y * um_per_px:.1f}"] if um_per_px else row


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "_-" else "_" for c in name)[:120]


def table_html(title: str, columns: Row, rows: Sequence[Row], file: str, download: str = "") -> str:
    """One table with its buttons. `file`: the CSV's name, without its ending; `download`: a further link, as HTML."""
    head = "".join(f'<th scope="col">{escape(c)}</th>' for c in columns)
    body = "".join("<tr>" + "".join(_cell(v, n) for n, v in enumerate(row)) + "</tr>" for row in rows[:MAX_ROWS])
    more = f'<p class="pa-quiet">{len(rows) - MAX_ROWS} more rows in the CSV.</p>' if len(rows) > MAX_ROWS else ""
    data = base64.b64encode(csv_of(columns, rows).encode("utf-8-sig")).decode()
    name = _file_name(file)
    return (
        f'<div class="pa-table"><table><caption>{escape(title)}</caption><thead><tr>{head}</tr></thead>'
        f'<tbody>{body}</tbody></table>{more}<div class="pa-tools">'
        f'<button type="button" class="pa-button" data-pa="copy">Copy</button>'
        f'<a class="pa-button" download="{name}.csv" href="data:text/csv;base64,{data}">Download CSV</a>'
        f"{download}</div></div>"
    )


def csv_of(columns: Row, rows: Sequence[Row]) -> str:
    """RFC 4180. A cell that a spreadsheet would run as a formula gets a leading apostrophe."""
    sink = io.StringIO()
    writer = csv.writer(sink)
    writer.writerow([_harmless(c) for c in columns])
    writer.writerows([[_harmless(v) for v in row] for row in rows])
    return sink.getvalue()


def _split(numbers: dict[str, Any]) -> tuple[list[tuple[str, str]], dict[str, list[dict[str, Any]]]]:
    """Single values (of nested groups too, named `group: key`), and lists of rows; long lists of one length become one."""
    single: list[tuple[str, str]] = []
    lists: dict[str, list[dict[str, Any]]] = {}
    long = {name: value for name, value in numbers.items() if _is_column(value)}
    for length in dict.fromkeys(len(v) for v in long.values()):
        columns = {name: value for name, value in long.items() if len(value) == length}
        rows = zip(*columns.values(), strict=True)
        lists["each_object"] = [{"number": n, **dict(zip(columns, row, strict=True))} for n, row in enumerate(rows, 1)]
    for name, value in numbers.items():
        if name in long:
            continue
        if isinstance(value, dict):
            single += [(f"{title_of(name)}: {title_of(str(k))}", number(v)) for k, v in value.items()]
        elif isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
            lists[name] = value
        else:
            single.append((NAMES.get(name) or title_of(name), number(value)))
    return single, lists


def _is_column(value: Any) -> bool:
    return isinstance(value, list) and len(value) > FEW and not any(isinstance(v, list | dict) for v in value)


def _cell(value: str, place: int) -> str:
    numeric = value.replace(".", "", 1).lstrip("-").isdecimal()
    if place == 0 and not numeric:
        return f'<th scope="row">{escape(value)}</th>'
    if value.startswith("https://") and " " not in value:
        return f'<td><a href="{escape(value)}" target="_blank" rel="noopener noreferrer">{escape(value)}</a></td>'
    return f"<td{' class=pa-number' if numeric else ''}>{escape(value)}</td>"


def _harmless(value: str) -> str:
    number_like = value.lstrip("+-").replace(".", "", 1).isdecimal()
    return f"'{value}" if value[:1] in ("=", "+", "-", "@", "\t", "\r") and not number_like else value
