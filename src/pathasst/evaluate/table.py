"""A measured table: what was measured, on what, and how; and its forms for terminal, Markdown and JSON. Knows no model.

Every table carries its data, split, n, seed and command, so that a number never travels without them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pathasst.core.statistics import Interval

SHORT = 20  # characters of a name that is not folded on the terminal
Cell = str | int | float | bool | Interval | None


@dataclass(slots=True, kw_only=True)
class Table:
    """One table or figure of the report."""

    id: str  # file-name safe, such as zero-shot
    title: str
    columns: list[str]
    rows: list[list[Cell]] = field(default_factory=list)
    data: str = ""  # which set, which split
    seed: int | None = None
    command: str = ""
    notes: list[str] = field(default_factory=list)
    pictures: dict[str, bytes] = field(default_factory=dict)  # caption → PNG
    items: list[dict[str, Any]] = field(default_factory=list)  # per-item predictions, for paired comparison
    section: str = ""  # of the paper

    def add(self, *cells: Cell) -> None:
        """Append a row; as many cells as columns."""
        if len(cells) != len(self.columns):
            raise ValueError(f"{self.id}: {len(cells)} cells for {len(self.columns)} columns")
        self.rows.append(list(cells))

    def remarks(self) -> list[str]:
        """The notes, and what an interval without width means, where there is one."""
        cells = [c for row in self.rows for c in row if isinstance(c, Interval)]
        flat = any(c.low == c.high for c in cells)
        return [
            *self.notes,
            *(["An interval without width: all items scored alike; it does not make the number sure."] if flat else []),
        ]

    def source(self) -> str:
        """Data, seed and command in one line."""
        parts = [self.data, "" if self.seed is None else f"seed {self.seed}", f"`{self.command}`" if self.command else ""]
        return " · ".join(p for p in parts if p)


def format_cell(cell: Cell) -> str:
    """A cell as people read it: intervals with both ends, numbers with three figures, nothing as a dash."""
    if cell is None:
        return "–"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return f"{cell:.3f}" if isinstance(cell, float) else str(cell)


def to_markdown(table: Table) -> str:
    """The table with its title, source and notes."""
    lines = [f"### {table.title}", "", _row(table.columns), _row(["---"] * len(table.columns))]
    lines += [_row([format_cell(c) for c in row]) for row in table.rows]
    lines += ["", *([table.source()] if table.source() else []), *(f"- {n}" for n in table.remarks())]
    return "\n".join(lines).rstrip() + "\n"


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"


def to_json(table: Table) -> dict[str, Any]:
    """Plain values; intervals as {value, low, high}. Pictures are left out, items kept."""
    return {
        "id": table.id,
        "title": table.title,
        "section": table.section,
        "columns": table.columns,
        "rows": [[_plain(c) for c in row] for row in table.rows],
        "data": table.data,
        "seed": table.seed,
        "command": table.command,
        "notes": table.notes,
        "items": table.items,
    }


def from_json(values: Mapping[str, Any]) -> Table:
    """The table behind `to_json`."""
    rows = [[Interval(**c) if isinstance(c, dict) else c for c in row] for row in values["rows"]]
    parsed = {
        k: values[k] for k in ("id", "title", "columns", "data", "seed", "command", "notes", "items", "section") if k in values
    }
    return Table(**parsed, rows=rows)


def _plain(cell: Cell) -> Any:
    return {"value": cell.value, "low": cell.low, "high": cell.high} if isinstance(cell, Interval) else cell


def _is_name(table: Table, column: int) -> bool:
    """Whether a column is a first one of short texts, which stay whole where intervals are folded."""
    return column == 0 and all(len(format_cell(row[0])) <= SHORT for row in table.rows)


def print_tables(tables: Sequence[Table]) -> None:
    """On the terminal, widest columns folded."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column
    from rich.table import Table as RichTable

    console = Console()
    for table in tables:
        head = [Column(escape(c), overflow="fold", no_wrap=_is_name(table, n)) for n, c in enumerate(table.columns)]
        view = RichTable(*head, title=escape(table.title), title_justify="left", box=None, pad_edge=False, header_style="bold")
        for row in table.rows:
            view.add_row(*(escape(format_cell(c)) for c in row))
        console.print(view)
        for line in filter(None, (table.source(), *table.remarks())):
            console.print(f"  [dim]{escape(line)}[/]", highlight=False)
        console.print()
