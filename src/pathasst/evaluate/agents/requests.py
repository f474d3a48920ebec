"""Our 311 requests as tasks with their wanted steps, and our agent's rollouts on them. Knows the assistant and its tools."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pathasst import __version__
from pathasst.assistant.answering import ask
from pathasst.assistant.brains.settings import Brain
from pathasst.core.errors import PathAsstError
from pathasst.core.records import ImageBytes
from pathasst.evaluate.agents.trajectory import AgentTask, Rollout, TrajectoryStep
from pathasst.evaluate.asking import bar
from pathasst.evaluate.predictions import Predictions, Value, key_of
from pathasst.evaluate.toolchoice import NOT_COUNTED, ToolRequest
from pathasst.tools.protocol import Registry

Pictures = dict[str, list[ImageBytes]]


def task_of(request: ToolRequest, pictures: Pictures | None = None) -> AgentTask:
    """A request as a task: its wanted tools in any order, the arguments that its words fix, the picture of its kind."""
    kinds = (pictures or {}).get(request.kind, [])
    return AgentTask(
        id=request.id,
        query=request.say,
        steps=tuple(
            TrajectoryStep(tool=t, arguments=request.arguments if n == 0 else {}) for n, t in enumerate(request.expected)
        ),
        pictures=(kinds[request.number % len(kinds)],) if kinds else (),
        ordered=False,
        group=request.group,
    )


def tasks_of(requests: Sequence[ToolRequest], pictures: Pictures | None = None) -> list[AgentTask]:
    """The tasks of the requests that need no earlier conversation: a rollout begins anew."""
    return [task_of(r, pictures) for r in requests if not r.before]


def roll_out(brain: Brain, tasks: Sequence[AgentTask], cache: Path, tools: Registry | None = None) -> list[Rollout]:
    """What the assistant does with each task, tools run for real; kept on disk, so that a killed run goes on."""
    keys = [
        key_of(
            "rollout", __version__, brain.name, t.id, t.query, [key_of(p if isinstance(p, bytes) else str(p)) for p in t.pictures]
        )
        for t in tasks
    ]

    def some(rows: list[int]) -> list[Value]:
        return [_rolled(brain, tasks[n], tools) for n in rows]

    with bar("rollouts", len(tasks)) as progress:
        values = Predictions(cache, "rollouts").fill(keys, some, batch=1, progress=progress)
    return [
        Rollout(id=t.id, steps=tuple(TrajectoryStep(**s) for s in v["steps"]), answer=v["answer"], failure=v["failure"])
        for t, v in zip(tasks, values, strict=True)
    ]


def _rolled(brain: Brain, task: AgentTask, tools: Registry | None) -> Value:
    try:
        answer = ask(list(task.pictures) or None, task.query, brain=brain, registry=tools)
    except PathAsstError as error:
        return {"steps": [], "answer": "", "failure": str(error)}
    steps = [
        {"tool": s.call.name, "arguments": s.call.arguments, "result": s.result.text[:500], "error": s.result.error}
        for s in answer.steps
        if s.call.name != NOT_COUNTED and not s.repeated
    ]
    return {"steps": steps, "answer": answer.text, "failure": ""}
