"""What was measured, one JSON file a benchmark in benchmarks/results, and the tables made from it. Knows no benchmark.

A script ends with `save(given.json, values)`. `values` may be nested; intervals are `pathasst.core.statistics.Interval`. The
README's table is `rows.yaml`, whose texts name values: `{papers_quality.words.r1:.3f}` becomes "0.899 (0.869–0.922)" and
`{papers_quality.words.r1.value:.3f}` "0.899". A value that is not there stops everything with the row's name.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from pathasst.core.files import write_atomic
from pathasst.core.statistics import Interval

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
ROWS = ROOT / "benchmarks" / "rows.yaml"
README = ROOT / "README.md"
BEGIN, END = "<!-- made by benchmarks/run.py --tables from benchmarks/rows.yaml and results -->", "<!-- end of what is made -->"
COLUMNS = {"what": "what", "data": "data, split", "result": "result", "command": "command"}  # key in rows.yaml → head
STARTED = time.monotonic()


class Values(dict[str, Any]):
    """Part of a result, whose keys are attributes; an interval among them is written with both ends."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"{name!r} is not among {', '.join(self)}") from None

    def __format__(self, spec: str) -> str:
        return f"{self.value:{spec}} ({self.low:{spec}}–{self.high:{spec}})"


def command_line(about: str | None) -> argparse.ArgumentParser:
    """The parser of a script: what its docstring says, and `--json`."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="keep the result in this file")
    return parser


def save(path: Path | None, values: Mapping[str, Any], command: str = "") -> None:
    """Write a result with what made it: command, machine, date, commit, seconds. Without a path nothing is done.

    `command`: of another process that made the values; this one's, with its seconds, by default.
    A value `table`, {"columns": …, "rows": …}, is what docs/performance.md shows of it; otherwise all values are.
    """
    if path is None:
        return
    kept = {
        "command": command or shlex.join(["python", *_script(sys.argv)]),
        "machine": f"{os.cpu_count()} cores, {_processor()}, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": _commit(),
        "seconds": None if command else round(time.monotonic() - STARTED),
        "values": values,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, (json.dumps(kept, ensure_ascii=False, indent=1, default=_plain) + "\n").encode())


def load(folder: Path = RESULTS) -> dict[str, Values]:
    """Every kept result by its name."""
    return {p.stem: json.loads(p.read_text(encoding="utf-8"), object_hook=Values) for p in sorted(folder.glob("*.json"))}


def readme_table(results: Mapping[str, Values], rows: Path = ROWS) -> str:
    """The README's table. Raises SystemExit with the row that names a value which is not there."""
    values = {name: kept["values"] for name, kept in results.items()}
    lines = [_row(COLUMNS.values()), _row(["---"] * len(COLUMNS))]
    for row in yaml.safe_load(rows.read_text(encoding="utf-8")):
        try:
            lines.append(_row([str(row[c]).format_map(values).replace("%", " %") for c in COLUMNS]))
        except (KeyError, AttributeError, IndexError, ValueError) as error:
            raise SystemExit(f"{rows.name}, {row['what']!r}: {error}") from error
    return "\n".join(lines)


def with_table(page: str, table: str, begin: str = BEGIN) -> str:
    """The page with what stands between its two marks replaced."""
    before, _, rest = page.partition(begin)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"the page lacks the marks {begin} and {END}")
    return f"{before}{begin}\n\n{table}\n\n{END}{after}"


def section(kept: Values) -> str:
    """One result as docs/performance.md shows it: what made it, then its table, or a table of all values with the same names."""
    took = "" if kept.seconds is None else f" · {kept.seconds} s"
    made = f"`{kept.command}` · {kept.machine} · {kept.date} · commit {kept.commit}{took}"
    own = kept["values"].get("table")
    tables = {tuple(own.columns): own.rows} if own else _tables(kept["values"])
    parts = [
        [_row(columns), _row(["---"] * len(columns)), *(_row(map(shown, row)) for row in rows)]
        for columns, rows in tables.items()
    ]
    return "\n\n".join([made, *("\n".join(lines) for lines in parts)])


def shown(cell: object) -> str:
    """A cell as people read it."""
    if isinstance(cell, Values):
        return f"{cell:.3f}"
    return f"{cell:.4g}" if isinstance(cell, float) else f"{cell:,}" if isinstance(cell, int) else str(cell)


def from_file(path: Path) -> dict[str, Any]:
    """Values of another JSON file: of `pathasst eval` by row and column, of any other as they are; its items are left out."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    found.pop("items", None)
    if not {"columns", "rows"} <= found.keys():
        return found
    head, *columns = found["columns"]
    by_name: dict[str, Any] = {str(row[0]): dict(zip(columns, row[1:], strict=True)) for row in found["rows"]}
    return by_name | {
        "table": {"columns": [head, *columns], "rows": [["–" if c is None else c for c in r] for r in found["rows"]]}
    }


def _tables(values: Mapping[str, Any]) -> dict[tuple[str, ...], list[list[Any]]]:
    """Columns → rows: groups of values whose names are the same share a table, in which a row's first cell says where it was."""
    tables: dict[tuple[str, ...], list[list[Any]]] = {}
    for place, found in _groups(values):
        tables.setdefault(("of", *found), []).append([place, *found.values()])
    return tables


def _groups(values: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    inner = {k: v for k, v in values.items() if isinstance(v, dict) and not {"value", "low", "high"} <= v.keys()}
    if found := {k: v for k, v in values.items() if k not in inner and not isinstance(v, list)}:
        yield place or "all", found
    for name, group in inner.items():
        yield from _groups(group, f"{place}, {name}".removeprefix(", ").removesuffix(", rows"))


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _plain(value: object) -> Any:
    if isinstance(value, Interval):
        return asdict(value)
    item = getattr(value, "item", None)  # NumPy's numbers
    return item() if item else str(value)


def _script(arguments: Sequence[str]) -> list[str]:
    """The command line without --json FILE and with the script as it is called from the root."""
    at = arguments.index("--json") if "--json" in arguments else len(arguments)
    return [f"benchmarks/{Path(arguments[0]).name}", *arguments[1:at], *arguments[at + 2 :]]


def _commit() -> str:
    run = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return run.stdout.strip() or "unknown"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
