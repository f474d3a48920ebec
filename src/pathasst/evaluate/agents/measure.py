"""Rollouts against tasks as one table: tool choice, arguments, order, early stop, recovery, outcome, with intervals by task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pathasst.core.statistics import Interval, f1_interval, mean_interval, sums_interval
from pathasst.evaluate.agents.trajectory import AgentTask, Rollout, RolloutVerdict, judge
from pathasst.evaluate.leaderboard import Score
from pathasst.evaluate.predictions import key_of
from pathasst.evaluate.table import Table

METRICS = (
    "right calls",
    "precision",
    "recall",
    "F1 of calls",
    "arguments",
    "order",
    "early stop",
    "error rate",
    "recovered",
    "finished",
    "outcome",
)
COLUMNS = ["tasks", "n", *METRICS]


def evaluate(name: str, tasks: Sequence[AgentTask], rollouts: Sequence[Rollout]) -> tuple[Table, list[Score]]:
    """All measures in all and by group, and what the leaderboard file gets.

    A task without a rollout counts as one that did nothing.
    """
    by_id = {r.id: r for r in rollouts}
    verdicts = [judge(t, by_id.get(t.id, Rollout(id=t.id, failure="no rollout"))) for t in tasks]
    table = Table(id="agents", title=f"Agents: {name}", columns=COLUMNS, seed=0)
    scores: list[Score] = []
    data = key_of([[t.id, t.query, [[s.tool, dict(s.arguments)] for s in t.steps]] for t in tasks])[:16]
    for group in ("", *dict.fromkeys(t.group for t in tasks if t.group)):
        rows = [v for t, v in zip(tasks, verdicts, strict=True) if group in ("", t.group)]
        values = measure(rows)
        table.add(group or "all", len(rows), *(values.get(m) for m in METRICS))
        scores += [Score(task=group or "all", metric=m, value=v, n=len(rows), data=data) for m, v in values.items()]
    table.items = [_item(name, t, by_id.get(t.id), v) for t, v in zip(tasks, verdicts, strict=True)]
    if missing := sum(t.id not in by_id for t in tasks):
        table.notes.append(f"{missing} tasks have no rollout; they count as done with no call.")
    table.notes.append(
        "95 % intervals, bootstrap by task. Early stop: an answer though a wanted call is missing. Recovered: of the failed "
        "calls, those "
        "followed by a call of the same or of a wanted tool that worked. Outcome: phrases that the answer must and must not hold."
    )
    return table, scores


def measure(verdicts: Sequence[RolloutVerdict]) -> dict[str, Interval]:
    """Metric → value of those that occur."""
    counts = np.array([[v.hits, v.spare, v.missed] for v in verdicts], float)
    values: dict[str, Interval] = {"right calls": mean_interval([float(v.exact) for v in verdicts])}
    if counts[:, [0, 2]].any():
        values["precision"] = sums_interval(lambda s: s[:, 0] / np.maximum(s[:, 0] + s[:, 1], 1), counts)
        values["recall"] = sums_interval(lambda s: s[:, 0] / np.maximum(s[:, 0] + s[:, 2], 1), counts)
        values["F1 of calls"] = f1_interval(counts)
    shares = {name: [getattr(v, name) for v in verdicts] for name in ("arguments", "order", "recovered", "outcome")}
    for name, share in shares.items():
        if some := [x for x in share if x is not None]:
            values[name] = mean_interval(some)
    values["early stop"] = mean_interval([float(v.early_stop) for v in verdicts])
    values["finished"] = mean_interval([float(v.finished) for v in verdicts])
    calls = np.array([[v.errors, v.hits + v.spare + v.errors] for v in verdicts], float)
    if calls[:, 1].any():
        values["error rate"] = sums_interval(lambda s: s[:, 0] / np.maximum(s[:, 1], 1), calls)
    return values


def _item(name: str, task: AgentTask, rollout: Rollout | None, scores: RolloutVerdict) -> dict[str, Any]:
    calls = [[s.tool, dict(s.arguments)] for s in rollout.steps] if rollout else []
    return {
        "model": name,
        "id": task.id,
        "cluster": task.id,
        "part": task.group or "all",
        "asked": task.query,
        "wanted": [s.tool for s in task.steps],
        "calls": calls,
        "said": rollout.answer if rollout else "",
        "score": float(scores.exact),
    }
