"""A task with the steps that solve it, what an agent did, and how the two compare. Knows no brain and no tool.

The measures are those of MedCTA, which took GTA's: tool choice, arguments, order, early stop, outcome; beside them what an
agent does after an error of a tool. MedCTA lets a language model judge text; here the outcome is held to words that must and
must not occur.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pathasst.core.errors import BadDataset
from pathasst.core.records import ToolSpec
from pathasst.core.tables import lines_of


@dataclass(frozen=True, slots=True, kw_only=True)
class TrajectoryStep:
    """One tool call, wanted or made. `fixed`: the arguments that the words of the task fix; of a call made, all of them."""

    tool: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    result: str = ""
    error: str = ""  # why it failed; of a call made


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentTask:
    """What is asked, and the steps that solve it; `ordered`: whether their order matters."""

    id: str
    query: str
    steps: tuple[TrajectoryStep, ...]
    pictures: tuple[Path | bytes, ...] = ()
    specs: tuple[ToolSpec, ...] = ()  # the tools on offer; empty: not stated
    answer: str = ""
    whitelist: tuple[tuple[str, ...], ...] = ()  # of each group one phrase must occur in the answer
    blacklist: tuple[tuple[str, ...], ...] = ()  # none of these may
    ordered: bool = True
    group: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """What an agent did: its calls in order, and its last words; `failure`: why it gave none."""

    id: str
    steps: tuple[TrajectoryStep, ...] = ()
    answer: str = ""
    failure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutVerdict:
    """How a rollout compares with its task. Shares are 0…1, None where the task has nothing of the kind."""

    hits: int  # calls of a wanted tool, each wanted one once
    spare: int  # calls of other tools, or once too often
    missed: int
    arguments: float | None  # of the hits whose task fixes arguments, the share that has all of them
    order: float | None  # longest run of wanted calls in the wanted order, of all wanted; None where order does not matter
    early_stop: bool  # an answer was given though a wanted call was missing
    errors: int  # calls that failed
    recovered: float | None  # of the errors, the share followed by a call of the same tool, or of a wanted one, that worked
    finished: bool  # an answer was given
    outcome: float | None  # whether the answer holds what it must and nothing that it must not

    @property
    def exact(self) -> bool:
        """Whether the calls are the wanted ones, no more and no fewer, in their order where it matters."""
        return not self.spare and not self.missed and self.order in (None, 1.0)


def judge(task: AgentTask, rollout: Rollout) -> RolloutVerdict:
    """The verdict on one rollout. Calls that failed do not count as made, but as errors."""
    calls = [s for s in rollout.steps if not s.error]
    expected, actual_tools = Counter(s.tool for s in task.steps), Counter(s.tool for s in calls)
    hits = (expected & actual_tools).total()
    finished = bool(rollout.answer.strip()) and not rollout.failure
    failed = [n for n, s in enumerate(rollout.steps) if s.error]
    healed = [any(_heals(later, rollout.steps[n], expected) for later in rollout.steps[n + 1 :]) for n in failed]
    return RolloutVerdict(
        hits=hits,
        spare=actual_tools.total() - hits,
        missed=expected.total() - hits,
        arguments=_arguments(task.steps, calls),
        order=_common([s.tool for s in task.steps], [s.tool for s in calls]) / len(task.steps)
        if task.ordered and task.steps
        else None,
        early_stop=finished and expected.total() > hits,
        errors=len(failed),
        recovered=sum(healed) / len(healed) if healed else None,
        finished=finished,
        outcome=outcome(task, rollout.answer),
    )


def same_argument(name: str, expected: Any, actual: Any) -> bool:
    """Whether an argument is right: numbers equal, of a `query` every wanted word there, other text but for case and space."""
    if isinstance(expected, bool) or isinstance(actual, bool):
        return expected is actual
    if isinstance(expected, str) and isinstance(actual, str):
        if name == "query":
            return set(expected.lower().split()) <= set(re.findall(r"[\w-]+", actual.lower())) | set(actual.lower().split())
        return expected.split() == actual.split() or expected.lower().split() == actual.lower().split()
    if isinstance(expected, Sequence) and isinstance(actual, Sequence) and not isinstance(actual, str):
        return len(expected) == len(actual) and all(same_argument(name, w, a) for w, a in zip(expected, actual, strict=True))
    try:
        return abs(float(expected) - float(actual)) < 1e-9
    except (TypeError, ValueError):
        return bool(expected == actual)


def _heals(later: TrajectoryStep, failed: TrajectoryStep, expected: Counter[str]) -> bool:
    return not later.error and (later.tool == failed.tool or later.tool in expected)


def _arguments(expected: Sequence[TrajectoryStep], calls: Sequence[TrajectoryStep]) -> float | None:
    """Of the wanted calls with fixed arguments that were made, the share that has them; each call serves one wanted step."""
    fixed = [s for s in expected if s.arguments and any(c.tool == s.tool for c in calls)]
    free, right = list(calls), 0
    for step in fixed:
        match = next((m for m in free if m.tool == step.tool and has_arguments(m, step)), None)
        if match is not None:
            free.remove(match)
            right += 1
    return right / len(fixed) if fixed else None


def has_arguments(call: TrajectoryStep, expected: TrajectoryStep) -> bool:
    """Whether a call has all arguments that the wanted one fixes."""
    return all(
        name in call.arguments and same_argument(name, value, call.arguments[name]) for name, value in expected.arguments.items()
    )


def _common(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(second) + 1)
    for a in first:
        diagonal = 0
        for n, b in enumerate(second, 1):
            diagonal, row[n] = row[n], diagonal + 1 if a == b else max(row[n], row[n - 1])
    return row[-1]


def outcome(task: AgentTask, answer: str) -> float | None:
    """1.0 where the answer holds a phrase of each group it must and none that it must not, else 0.0; None without such."""
    if not task.whitelist and not task.blacklist:
        return None
    text = answer.lower()
    there = all(any(phrase.lower() in text for phrase in group) for group in task.whitelist)
    barred = any(phrase.lower() in text for group in task.blacklist for phrase in group)
    return float(there and not barred)


def read_tasks(path: Path) -> list[AgentTask]:
    """MedCTA's (and GTA's) dataset.json: {number: {tools, files, dialogs, gt_answer}}; each tool call of the dialogs is a step.

    Raises BadDataset, which says what was looked for.
    """
    try:
        nodes = json.loads(path.read_text(encoding="utf-8"))
        tasks = [_task(str(id), node, path.parent) for id, node in nodes.items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadDataset(
            f"{path} is no file of tasks as MedCTA has them ({{number: {{tools, files, dialogs, gt_answer}}}}): {error!r}. "
            f"Get it: https://ivul-kaust.github.io/MedCTA (medcta_dataset/dataset.json)."
        ) from error
    if not tasks:
        raise BadDataset(f"{path} holds no tasks.")
    return tasks


def _spec(tool: Any) -> ToolSpec:
    """A tool of the file: its name, or {name, description, inputs: [{name, type, description, optional}]}."""
    if not isinstance(tool, dict):
        return ToolSpec(name=str(tool), description="", parameters={"type": "object", "properties": {}, "required": []})
    types = {"text": "string", "int": "integer", "float": "number", "bool": "boolean"}
    inputs = tool.get("inputs") or []
    properties = {
        str(i["name"]): {"type": types.get(str(i.get("type")), "string"), "description": str(i.get("description") or "")}
        for i in inputs
    }
    parameters = {
        "type": "object",
        "properties": properties,
        "required": [str(i["name"]) for i in inputs if not i.get("optional")],
    }
    return ToolSpec(name=str(tool["name"]), description=str(tool.get("description") or ""), parameters=parameters)


def _task(id: str, node: Mapping[str, Any], folder: Path) -> AgentTask:
    steps, query, results = [], "", []
    for turn in node["dialogs"]:
        if turn["role"] == "user" and not query:
            query = str(turn["content"])
        for call in turn.get("tool_calls") or ():
            function = call["function"]
            arguments = function.get("arguments") or {}
            steps.append(
                TrajectoryStep(
                    tool=function["name"], arguments=json.loads(arguments) if isinstance(arguments, str) else arguments
                )
            )
        if turn["role"] == "tool":
            content = turn.get("content")
            results.append(str(content.get("content", content) if isinstance(content, dict) else content))
    gold = node.get("gt_answer") or {}
    gold = gold if isinstance(gold, dict) else {"whitelist": [[str(gold)]]}
    last = next((str(t["content"]) for t in reversed(node["dialogs"]) if t["role"] == "assistant" and t.get("content")), "")
    return AgentTask(
        id=id,
        query=query,
        steps=tuple(
            TrajectoryStep(tool=s.tool, arguments=s.arguments, result=r)
            for s, r in zip(steps, results + [""] * len(steps), strict=False)
        ),
        pictures=tuple(folder / str(f["path"]) for f in node.get("files") or ()),
        specs=tuple(_spec(t) for t in node.get("tools") or ()),
        answer=last,
        whitelist=_groups(gold.get("whitelist")),
        blacklist=_groups(gold.get("blacklist")),
    )


def _groups(values: Any) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(map(str, g)) if isinstance(g, list) else (str(g),) for g in values or ())


def read_rollouts(path: Path) -> list[Rollout]:
    """JSONL of what an agent did: {id, steps: [{tool, arguments, error}], answer}. Raises BadDataset."""
    rollouts = []
    try:
        for line in lines_of(path.read_text(encoding="utf-8")):
            if line.strip():
                row = json.loads(line)
                steps = tuple(
                    TrajectoryStep(**{k: v for k, v in s.items() if k in ("tool", "arguments", "result", "error")})
                    for s in row["steps"]
                )
                rollouts.append(
                    Rollout(
                        id=str(row["id"]), steps=steps, answer=str(row.get("answer", "")), failure=str(row.get("failure", ""))
                    )
                )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadDataset(f"{path}: expected JSONL of {{id, steps: [{{tool, arguments, error}}], answer}}; {error!r}") from error
    return rollouts


def rollout_to_row(rollout: Rollout) -> dict[str, Any]:
    """A line of the JSONL that `read_rollouts` reads."""
    steps = [{"tool": s.tool, "arguments": dict(s.arguments), "result": s.result, "error": s.error} for s in rollout.steps]
    return {"id": rollout.id, "steps": steps, "answer": rollout.answer, "failure": rollout.failure}
