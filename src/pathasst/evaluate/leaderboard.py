"""A run as one small file that others can set beside theirs: model, data hash, protocol, scores, intervals, machine.

The file holds no item and no picture, so that it can be published. `pathasst eval compare` puts any number of such files into a
table and a picture. Knows scores alone, no task and no model.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from pathasst import __version__
from pathasst.core.errors import BadDataset
from pathasst.core.files import write_atomic
from pathasst.core.statistics import Interval
from pathasst.evaluate.table import Table

FORMAT = "pathasst-leaderboard/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One number of a run. Scores of two runs are comparable where task, split, protocol, metric and data hash are equal."""

    task: str
    metric: str
    value: Interval
    n: int
    protocol: str = ""
    split: str = ""
    clusters: int = 0  # how many the interval drew from; 0: as many as items
    data: str = ""  # hash of what was measured on

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What makes two scores the same measurement, but for the data."""
        return self.task, self.split, self.protocol, self.metric


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """All scores of one model by one command."""

    model: str
    scores: list[Score]
    fingerprint: str = ""  # hash of the weights
    part: str = ""  # classify, questions …
    seed: int | None = None
    command: str = ""
    version: str = __version__
    machine: str = field(default_factory=lambda: machine())
    date: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%d"))
    notes: list[str] = field(default_factory=list)


def machine() -> str:
    """Processor, cores, memory and GPU of this machine, in one line."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30 if hasattr(os, "sysconf") else 0
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return f"{name}, {os.cpu_count()} cores, {memory:.0f} GB, Python {platform.python_version()}"


def write_run(run: Run, path: Path) -> None:
    """Write a run as JSON, whole or not at all."""
    values = {
        "format": FORMAT,
        **{
            k: getattr(run, k) for k in ("model", "fingerprint", "part", "version", "date", "machine", "seed", "command", "notes")
        },
        "scores": [_plain(s) for s in run.scores],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, (json.dumps(values, ensure_ascii=False, indent=1) + "\n").encode())


def is_run(path: Path) -> bool:
    """Whether a file is a leaderboard file; false for tables of `pathasst eval` and for everything else."""
    try:
        return str(json.loads(path.read_text(encoding="utf-8")).get("format", "")).startswith("pathasst-leaderboard/")
    except (OSError, ValueError, AttributeError):
        return False


def read_run(path: Path) -> Run:
    """The run in a file. Raises BadDataset, which says what is wrong with it."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values.get("format") != FORMAT:
            raise BadDataset(
                f"{path} is no leaderboard file of the form {FORMAT}, but {values.get('format', 'has no format')!r}."
            )
        scores = [Score(**{**s, "value": Interval(**s["value"])}) for s in values["scores"]]
        names = ("model", "fingerprint", "part", "version", "date", "machine", "seed", "command", "notes")
        return Run(scores=scores, **{k: values[k] for k in names if k in values})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadDataset(f"{path} is no leaderboard file: {error!r}") from error


def _plain(score: Score) -> dict[str, Any]:
    value = {k: round(getattr(score.value, k), 4) for k in ("value", "low", "high")}
    return {
        **{k: getattr(score, k) for k in ("task", "split", "protocol", "metric")},
        "value": value,
        **{k: getattr(score, k) for k in ("n", "clusters", "data")},
    }


def compare_runs(runs: Sequence[Run], metric: str = "") -> Table:
    """One row a measurement, one column a run, and a picture of them; `metric`: only this one.

    A row whose runs were measured on different data says so: its numbers cannot be compared.
    """
    names = _names(runs)
    table = Table(id="leaderboard", title="Runs side by side", columns=["task", "protocol", "metric", "n", *names, "same data"])
    by_key = [{s.key: s for s in run.scores if not metric or s.metric == metric} for run in runs]
    keys = list(dict.fromkeys(key for scores in by_key for key in scores))
    if not keys:
        metrics = sorted({s.metric for run in runs for s in run.scores})
        raise BadDataset(f"none of the runs has a score called {metric!r}; there are: {', '.join(metrics) or 'none'}.")
    for key in keys:
        there = [scores[key] for scores in by_key if key in scores]
        task, split, protocol, name = key
        same = len({s.data for s in there}) == 1 if len(there) > 1 else None
        counts = "/".join(dict.fromkeys(str(s.n) for s in there))
        cells = [scores[key].value if key in scores else None for scores in by_key]
        table.add(f"{task} ({split})" if split else task, protocol, name, counts, *cells, same)
    for name, run in zip(names, runs, strict=True):
        origin = ", ".join(filter(None, (run.version and f"pathasst {run.version}", run.date, run.machine)))
        table.notes.append(f"{name}: {run.model}, weights {run.fingerprint or 'unknown'}; {origin}; `{run.command}`")
    if any(row[-1] is False for row in table.rows):
        table.notes.append("Rows whose data differ (by hash) cannot be compared: the numbers are of other pictures or questions.")
    table.notes.append(
        "95 % intervals of each run by itself; a paired comparison needs the tables' items (`eval compare` of two)."
    )
    table.pictures["Scores"] = draw_runs(table, names)
    return table


def _names(runs: Sequence[Run]) -> list[str]:
    """The models' names, with a number where two are called alike."""
    names = [run.model for run in runs]
    return [f"{name} #{names[:n].count(name) + 1}" if names.count(name) > 1 else name for n, name in enumerate(names)]


def draw_runs(table: Table, names: Sequence[str]) -> bytes:
    """A PNG: a line a measurement, a dot with its interval for each run; values outside of 0…1 are left out."""
    from pathasst.core.plots import plot, png

    rows = [row for row in table.rows if any(isinstance(c, Interval) and 0 <= c.value <= 1 for c in row)]
    [axes] = plot(9, 1 + max(0.25, 0.12 * len(names)) * len(rows) + 0.2 * len(names))
    for column, name in enumerate(names):
        height = 0.6 * (column + 0.5) / len(names) - 0.3
        cells = [
            (n + height, c) for n, row in enumerate(rows) if isinstance(c := row[4 + column], Interval) and 0 <= c.value <= 1
        ]
        bars = np.array([(c.value - c.low, c.high - c.value) for _, c in cells]).reshape(-1, 2).clip(0)
        axes.errorbar([c.value for _, c in cells], [y for y, _ in cells], xerr=bars.T, fmt="o", markersize=4, label=name)
    axes.set_yticks(range(len(rows)), [" · ".join(str(c) for c in row[:3] if c)[:64] for row in rows])
    axes.set(xlim=(0, 1), ylim=(len(rows) - 0.5, -0.5))
    axes.grid(axis="x", color="#dddddd")
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(0, -0.1))
    return png(axes)
