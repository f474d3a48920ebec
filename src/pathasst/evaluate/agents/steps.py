"""Step by step, as MedCTA's first mode: a brain gets the right steps so far and gives the next. Knows the brain protocol, runs
no tool.

At each step a brain may fail in three ways: it answers where it should call, or calls where it should answer (instruction); it
calls another tool (choice); it calls the right one with other arguments. The right step then goes on, so that one slip costs
one step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pathasst.assistant.brains.settings import Brain
from pathasst.core.records import IMAGE, Attachment, ToolCall, Turn
from pathasst.core.statistics import Interval, mean_interval
from pathasst.evaluate.agents.trajectory import AgentTask, TrajectoryStep, has_arguments, outcome
from pathasst.evaluate.asking import Prompt, ask_all, bar
from pathasst.evaluate.leaderboard import Score
from pathasst.evaluate.predictions import Predictions, Value, key_of
from pathasst.evaluate.table import Table

METRICS = ("instruction", "tool choice", "arguments", "outcome")
ANSWER = "answer"


@dataclass(frozen=True, slots=True)
class TaskStep:
    """One step of a task: the call that is wanted, or None at the end, where the answer is."""

    task: AgentTask
    number: int
    expected: TrajectoryStep | None


def places_of(tasks: Sequence[AgentTask]) -> list[TaskStep]:
    """Every step of every task, and its end."""
    return [TaskStep(t, n, s) for t in tasks for n, s in enumerate((*t.steps, None))]


def evaluate(brain: Brain, tasks: Sequence[AgentTask], cache: Path) -> tuple[Table, list[Score]]:
    """Each measure in all and by the number of the step, and what the leaderboard file gets. Intervals draw tasks."""
    places = places_of(tasks)
    with bar("steps", len(places)) as progress:
        values = ask_all(brain, [_prompt(brain, p) for p in places], Predictions(cache, "steps"), progress=progress)
    verdicts = [_judge(p, v) for p, v in zip(places, values, strict=True)]
    table = Table(id="agent-steps", title=f"Agents, step by step: {brain.name}", columns=["step", "n", *METRICS], seed=0)
    data = key_of([[t.id, t.query, [[s.tool, dict(s.arguments)] for s in t.steps]] for t in tasks])[:16]
    scores: list[Score] = []
    groups = [ANSWER if p.expected is None else f"step {p.number + 1}" for p in places]
    steps = [f"step {n + 1}" for n in range(max(len(t.steps) for t in tasks))]
    for name in ("all", *steps, ANSWER):
        rows = [n for n, group in enumerate(groups) if name in ("all", group)]
        measured = {m: _mean([(verdicts[n][m], places[n].task.id) for n in rows]) for m in METRICS}
        table.add(name, len(rows), *measured.values())
        scores += [Score(task=f"steps, {name}", metric=m, value=v, n=len(rows), data=data) for m, v in measured.items() if v]
    table.items = [_item(brain.name, p, v, j) for p, v, j in zip(places, values, verdicts, strict=True)]
    if failed := sum(bool(v["failed"]) for v in values):
        table.notes.append(f"{failed} replies failed (a picture that cannot be read) and count as wrong.")
    table.notes.append(
        "95 % intervals, bootstrap by task. The steps before are always the right ones. Instruction: a call where one is "
        "wanted, an answer where that is wanted. Of several calls the first counts."
    )
    return table, scores


def _prompt(brain: Brain, place: TaskStep) -> Prompt:
    task = place.task
    images = [_bytes(p) for p in task.pictures] if brain.sees else []
    attached = [Attachment(handle=f"image{n}") for n in range(1, len(task.pictures) + 1)]
    turns = [Turn(role="user", content=f"{IMAGE}\n" * len(images) + task.query, attachments=attached)]
    for n, step in enumerate(task.steps[: place.number], 1):
        call = ToolCall(name=step.tool, arguments=dict(step.arguments), id=f"call_{n}")
        turns += [Turn(role="assistant", tool_calls=[call]), Turn(role="tool", content=step.result, tool=step.tool)]
    return turns, images, list(task.specs)


def _bytes(picture: Path | bytes) -> bytes:
    try:
        return picture if isinstance(picture, bytes) else picture.read_bytes()
    except OSError:
        return b""  # the brain refuses it, which counts this item


def _judge(place: TaskStep, value: Value) -> dict[str, float | None]:
    """Metric → value; None where the step has nothing of the kind."""
    calls = [TrajectoryStep(tool=name, arguments=arguments) for name, arguments in value["calls"]]
    ok = not value["failed"]
    if place.expected is None:
        answered = ok and not calls and bool(value["said"].strip())
        return {
            "instruction": float(answered),
            "tool choice": None,
            "arguments": None,
            "outcome": outcome(place.task, value["said"]),
        }
    right = bool(calls) and calls[0].tool == place.expected.tool
    arguments = float(right and has_arguments(calls[0], place.expected)) if place.expected.arguments else None
    return {"instruction": float(ok and bool(calls)), "tool choice": float(right), "arguments": arguments, "outcome": None}


def _mean(values: Sequence[tuple[float | None, str]]) -> Interval | None:
    usable = [(v, task) for v, task in values if v is not None]
    return mean_interval([v for v, _ in usable], [task for _, task in usable]) if usable else None


def _item(name: str, place: TaskStep, value: Value, scores: dict[str, float | None]) -> dict[str, Any]:
    score = scores["tool choice"] if place.expected else scores["instruction"]
    return {
        "model": name,
        "id": f"{place.task.id}/{place.number + 1}",
        "cluster": place.task.id,
        "part": "tool choice" if place.expected else "answer",
        "asked": place.task.query,
        "wanted": [place.expected.tool] if place.expected else [],
        "calls": value["calls"],
        "said": value["said"],
        "score": score,
    }
