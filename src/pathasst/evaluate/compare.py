"""Two runs on the same items: the paired difference with its interval, which is narrower than two intervals side by side.

Knows tables' items alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pathasst.core.errors import BadDataset
from pathasst.core.statistics import mean_interval
from pathasst.evaluate.table import Table

Key = tuple[str, str]


def compare(first: Table, second: Table) -> Table:
    """second − first on the items that both have, by part, and of all where the first run has a row of all. Models of the same
    place in their tables are compared; a note names them where there is one of each, else the rows do.

    Raises BadDataset when the two share no scored items.
    """
    models = list(zip(_models(first.items), _models(second.items), strict=False))
    several = len(models) > 1
    table = Table(
        id=f"{first.id}-compared",
        title=f"{first.title}: second run − first run",
        columns=["part", *["first", "second"] * several, "n", "first mean", "second mean", "difference", "excludes 0"],
        seed=0,
    )
    parts = ["all"] if any(row[0] == "all" for row in first.rows) else []
    for a, b in models:
        left, right = _scores(first.items, a), _scores(second.items, b)
        shared = [key for key in left if key in right]
        for part in [*parts, *dict.fromkeys(part for part, _ in shared)]:
            keys = [k for k in shared if part in ("all", k[0])]
            x, y = ([side[k][0] for k in keys] for side in (left, right))
            difference = mean_interval([q - p for p, q in zip(x, y, strict=True)], [left[k][1] for k in keys])
            names = [a, b] * several
            table.add(part, *names, len(keys), sum(x) / len(x), sum(y) / len(y), difference, difference.excludes(0.0))
    if not table.rows:
        raise BadDataset(f"the two runs of {first.id} share no items, so nothing can be paired; were they made on the same data?")
    if not several and any(models[0]):
        table.notes.append(f"First: {models[0][0]}. Second: {models[0][1]}.")
    table.notes.append("95 % intervals of the paired difference, bootstrap by cluster.")
    return table


def _models(items: Iterable[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(str(i.get("model", "")) for i in items))


def _scores(items: Iterable[dict[str, Any]], model: str) -> dict[Key, tuple[float, str]]:
    return {
        (str(i["part"]), str(i["id"])): (float(i["score"]), str(i.get("cluster", i["id"])))
        for i in items
        if str(i.get("model", "")) == model and "score" in i
    }
