"""Tables on disk: JSON with every item, Markdown, and one self-contained HTML page with pictures. Knows tables alone."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from pathasst import __version__
from pathasst.core.errors import BadDataset
from pathasst.core.files import write_atomic
from pathasst.core.statistics import Interval
from pathasst.evaluate.table import Table, format_cell, from_json, to_json, to_markdown

SHOWN_ITEMS = 12


def save(tables: Sequence[Table], folder: Path) -> Path:
    """Write <id>.json and <id>.md of each table, and report.html of all that lie in the folder. Returns the HTML file."""
    folder.mkdir(parents=True, exist_ok=True)
    for table in tables:
        write_atomic(folder / f"{table.id}.json", json.dumps(to_json(table), ensure_ascii=False, indent=1).encode())
        write_atomic(folder / f"{table.id}.md", to_markdown(table).encode())
        for caption, png in table.pictures.items():
            write_atomic(folder / _picture_name(table, caption), png)
    page = folder / "report.html"
    write_atomic(page, to_html(load_all(folder)).encode())
    return page


def load(path: Path) -> Table:
    """A saved table, with the pictures that lie beside it. Raises BadDataset for another file."""
    try:
        table = from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadDataset(f"{path} is no saved table of `pathasst eval`: {error}") from error
    for png in sorted(path.parent.glob(f"{table.id}-*.png")):
        table.pictures[png.stem.removeprefix(f"{table.id}-").replace("-", " ")] = png.read_bytes()
    return table


def load_all(folder: Path) -> list[Table]:
    """Every table saved in a folder, in the order of their names."""
    return [load(p) for p in sorted(folder.glob("*.json"))]


def _picture_name(table: Table, caption: str) -> str:
    return f"{table.id}-{re.sub(r'[^A-Za-z0-9]+', '-', caption).strip('-').lower()}.png"


def to_html(tables: Sequence[Table]) -> str:
    """One page without scripts and without anything from outside; whatever tables hold is escaped."""
    from jinja2 import Environment, PackageLoader

    page = Environment(loader=PackageLoader("pathasst.evaluate", ""), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page.filters |= {
        "shown": format_cell,
        "share": _is_share,
        "paper": _is_paper,
        "wrong": _wrong,
        "base64": _base64,
        "words": _words,
    }
    style = (files(__package__) / "report.css").read_text(encoding="utf-8")
    return page.get_template("report.html.j2").render(tables=tables, style=style, version=__version__)


def _is_share(cell: object) -> bool:
    """Whether a cell is an interval on 0…1, which is drawn as a bar."""
    return isinstance(cell, Interval) and cell.low >= 0 and cell.high <= 1


def _is_paper(row: Sequence[object]) -> bool:
    return any(isinstance(c, str) and c.startswith("paper:") for c in row[:2])


def _words(value: object) -> str:
    """What an item holds, without Python's brackets and quotes; a call as `name(argument=value)`."""
    if isinstance(value, dict):
        return ", ".join(f"{name}={_words(v)}" for name, v in value.items())
    if isinstance(value, list) and len(value) == 2 and isinstance(value[1], dict):
        return f"{value[0]}({_words(value[1])})"
    return ", ".join(map(_words, value)) or "none" if isinstance(value, list) else str(value)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _wrong(table: Table) -> tuple[list[str], list[dict[str, Any]]]:
    """A few wrong items, what the numbers hide: the keys to show, and the items."""
    wrong = [i for i in table.items if i.get("score") == 0.0][:SHOWN_ITEMS]
    return [k for k in ("part", "asked", "id", "wanted", "said", "calls") if any(k in i for i in wrong)], wrong
