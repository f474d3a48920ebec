"""The first sheet of an Excel file as rows of text (SICAPv2's partitions are such). Knows no set.

An .xlsx is a zip of XML files: the strings once, the cells by reference. A library for it would be needed for nothing else.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from pathasst.core.errors import BadDataset

if TYPE_CHECKING:
    from lxml import etree

_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
MAX_BYTES = 64 * 2**20


def read_xlsx(path: Path) -> list[dict[str, str]]:
    """Rows by the names in the first row, lower case. Raises BadDataset for what is no workbook."""
    from lxml import etree

    try:
        with zipfile.ZipFile(path) as file:
            names = file.namelist()
            sheet = min(n for n in names if n.startswith("xl/worksheets/sheet"))
            shared = _texts(_xml(file, "xl/sharedStrings.xml")) if "xl/sharedStrings.xml" in names else []
            rows = [_cells(row, shared) for row in _xml(file, sheet).iter(f"{_MAIN}row")]
    except (OSError, ValueError, KeyError, IndexError, zipfile.BadZipFile, etree.XMLSyntaxError) as error:
        raise BadDataset(f"{path} is no Excel workbook that can be read: {error}. Saving it as .csv beside it helps.") from error
    head = {column: text.strip().lower() for column, text in (rows[0] if rows else {}).items()}
    return [{name: row.get(column, "") for column, name in head.items()} for row in rows[1:]]


def _xml(file: zipfile.ZipFile, name: str) -> etree._Element:
    from lxml import etree

    if file.getinfo(name).file_size > MAX_BYTES:
        raise ValueError(f"{name} is larger than {MAX_BYTES >> 20} MB")
    return etree.fromstring(file.read(name), etree.XMLParser(resolve_entities=False, no_network=True))


def _texts(root: etree._Element) -> list[str]:
    return ["".join(t.text or "" for t in item.iter(f"{_MAIN}t")) for item in root.iter(f"{_MAIN}si")]


def _cells(row: etree._Element, shared: list[str]) -> dict[str, str]:
    """Column letters → text of a row."""
    cells = {}
    for cell in row.iter(f"{_MAIN}c"):
        column = re.sub(r"\d", "", str(cell.get("r", "")))
        kind, value = cell.get("t", ""), cell.find(f"{_MAIN}v")
        if kind == "inlineStr":
            cells[column] = "".join(t.text or "" for t in cell.iter(f"{_MAIN}t"))
        elif value is not None:
            text = str(value.text or "")
            cells[column] = shared[int(text)] if kind == "s" else text.removesuffix(".0")
    return cells
