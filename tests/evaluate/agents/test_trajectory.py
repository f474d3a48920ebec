"""Rollouts against tasks: each measure by hand, MedCTA's layout, our requests as tasks, our agent's own rollouts."""

import json

import pytest
from evaluate_brains import RuleBrain

from pathasst.core.errors import BadDataset
from pathasst.evaluate.agents.measure import COLUMNS, evaluate
from pathasst.evaluate.agents.requests import tasks_of
from pathasst.evaluate.agents.trajectory import (
    AgentTask,
    Rollout,
    TrajectoryStep,
    judge,
    read_rollouts,
    read_tasks,
    rollout_to_row,
    same_argument,
)
from pathasst.evaluate.toolchoice import load_requests

TASK = AgentTask(
    id="1",
    query="Read the report and compute the ratio.",
    steps=(TrajectoryStep(tool="OCR"), TrajectoryStep(tool="Calculator", arguments={"expression": "3/4"})),
    whitelist=(("0.75", "three quarters"),),
    blacklist=(("cannot",),),
)


def rolled(*calls, answer="It is 0.75."):
    steps = [
        TrajectoryStep(tool=c) if isinstance(c, str) else TrajectoryStep(tool=c[0], arguments=c[1], error=(*c, "")[2])
        for c in calls
    ]
    return Rollout(id="1", steps=tuple(steps), answer=answer)


def test_the_reference_itself_is_right_in_everything():
    verdict = judge(TASK, rolled("OCR", ("Calculator", {"expression": " 3/4"})))
    assert verdict.exact and (verdict.arguments, verdict.order, verdict.outcome, verdict.recovered) == (1.0, 1.0, 1.0, None)
    assert not verdict.early_stop and verdict.finished


@pytest.mark.parametrize(
    ("rollout", "expected"),
    [
        (rolled("OCR"), {"missed": 1, "early_stop": True, "order": 0.5, "arguments": None, "outcome": 1.0}),
        (rolled("OCR", answer=""), {"early_stop": False, "finished": False, "outcome": 0.0}),
        (rolled(("Calculator", {"expression": "4/3"}), "OCR"), {"order": 0.5, "arguments": 0.0, "missed": 0, "exact": False}),
        (rolled("OCR", "GoogleSearch", ("Calculator", {"expression": "3/4"})), {"spare": 1, "order": 1.0, "exact": False}),
        (rolled("OCR", "OCR", ("Calculator", {"expression": "3/4"})), {"spare": 1, "hits": 2}),
        (rolled(answer="I cannot say, perhaps 0.75."), {"outcome": 0.0, "hits": 0, "early_stop": True}),
    ],
)
def test_what_goes_wrong_shows_where(rollout, expected):
    verdict = judge(TASK, rollout)
    assert {k: getattr(verdict, k) for k in expected} == expected


def test_an_error_is_recovered_by_a_later_call_that_works():
    failed = ("Calculator", {"expression": "3:4"}, "cannot be parsed")
    again = judge(TASK, rolled("OCR", failed, ("Calculator", {"expression": "3/4"})))
    assert (again.errors, again.recovered, again.exact) == (1, 1.0, True)
    given_up = judge(TASK, rolled("OCR", failed))
    assert (given_up.errors, given_up.recovered, given_up.early_stop) == (1, 0.0, True)
    elsewhere = judge(TASK, rolled("OCR", failed, "GoogleSearch"))
    assert elsewhere.recovered == 0.0


@pytest.mark.parametrize(
    ("name", "wanted", "actual", "same"),
    [
        ("x", 0.5, 0.5, True),
        ("x", 0.5, "0.50", True),
        ("x", 0.5, 0.6, False),
        ("x", True, True, True),
        ("x", True, 1, False),
        ("x", [1, 2], [1.0, 2.0], True),
        ("x", [1, 2], [1], False),
        ("x", "A b", "a  b", True),
        ("x", "a", "b", False),
        ("query", "Ki67 breast", "breast carcinoma, Ki67", True),
        ("query", "Ki67 breast", "breast carcinoma", False),
        ("x", {"a": 1}, {"a": 1}, True),
        ("x", 1, None, False),
    ],
)
def test_arguments(name, wanted, actual, same):
    assert same_argument(name, wanted, actual) is same


MEDCTA = {
    "0": {
        "tools": [{"name": "OCR"}, {"name": "Calculator"}],
        "files": [{"type": "image", "path": "image/a.jpg"}],
        "dialogs": [
            {"role": "user", "content": "What is the ratio?"},
            {
                "role": "assistant",
                "tool_calls": [{"type": "function", "function": {"name": "OCR", "arguments": {"image": "a.jpg"}}}],
            },
            {"role": "tool", "name": "OCR", "content": {"type": "text", "content": "3 of 4"}},
            {"role": "assistant", "tool_calls": [{"function": {"name": "Calculator", "arguments": '{"expression": "3/4"}'}}]},
            {"role": "tool", "name": "Calculator", "content": "0.75"},
            {"role": "assistant", "content": "0.75"},
        ],
        "gt_answer": {"whitelist": [["0.75"]], "blacklist": None},
    }
}


def test_medctas_layout(tmp_path):
    (tmp_path / "dataset.json").write_text(json.dumps(MEDCTA))
    (task,) = read_tasks(tmp_path / "dataset.json")
    assert [s.tool for s in task.steps] == ["OCR", "Calculator"] and task.steps[1].arguments == {"expression": "3/4"}
    assert [s.result for s in task.steps] == ["3 of 4", "0.75"]
    assert task.pictures == (tmp_path / "image/a.jpg",) and [s.name for s in task.specs] == ["OCR", "Calculator"]
    assert (task.query, task.answer, task.whitelist, task.blacklist) == ("What is the ratio?", "0.75", (("0.75",),), ())
    for content in ("half", "[]", '{"0": {"dialogs": [{}]}}'):
        (tmp_path / "dataset.json").write_text(content)
        with pytest.raises(BadDataset, match="no file of tasks as MedCTA has them"):
            read_tasks(tmp_path / "dataset.json")


def test_rollouts_are_read_as_they_are_written(tmp_path):
    done = rolled("OCR", ("Calculator", {"expression": "3/4"}, "broken"))
    (tmp_path / "a.jsonl").write_text(json.dumps(rollout_to_row(done)) + "\n\n")
    assert read_rollouts(tmp_path / "a.jsonl") == [done]
    (tmp_path / "a.jsonl").write_text('{"id": 1}')
    with pytest.raises(BadDataset, match="expected JSONL of"):
        read_rollouts(tmp_path / "a.jsonl")


def test_a_table_of_groups_counts_tasks_without_a_rollout():
    other = AgentTask(id="2", query="?", steps=(TrajectoryStep(tool="OCR"),), group="b")
    none = AgentTask(id="3", query="hello", steps=(), group="c")
    done = [rolled("OCR", ("Calculator", {"expression": "3/4"})), Rollout(id="3", answer="Hello.")]
    table, scores = evaluate("agent", [TASK, other, none], done)
    rows = {row[0]: dict(zip(COLUMNS, row, strict=True)) for row in table.rows}
    assert rows["all"]["n"] == 3 and rows["all"]["right calls"].value == pytest.approx(2 / 3)
    assert rows["b"]["recall"].value == 0.0 and rows["c"]["recall"] is None and rows["c"]["right calls"].value == 1.0
    assert any("1 tasks have no rollout" in note for note in table.notes)
    assert {s.task for s in scores} == {"all", "b", "c"} and rows["all"]["outcome"].value == 1.0


def test_our_requests_are_tasks():
    requests = load_requests()
    tasks = tasks_of(requests, {"ki67": [b"one", b"two"]})
    assert len(tasks) == sum(not r.before for r in requests) and len({t.id for t in tasks}) == len(tasks)
    by_id = {t.id: t for t in tasks}
    assert by_id["ki67_cells/1"].steps == (TrajectoryStep(tool="ki67_cells"),) and by_id["ki67_cells/1"].pictures == (b"two",)
    assert any(len(t.steps) > 1 and not t.ordered for t in tasks) and any(not t.steps for t in tasks)
    assert any(s.arguments for t in tasks for s in t.steps)


def test_our_agents_rollouts_are_made_once(tmp_path, png):
    from pathasst.evaluate.agents.requests import roll_out
    from pathasst.tools.protocol import Registry

    brain = RuleBrain(lambda words, images, tools: [("no_such_tool", {})] if len(brain.asked) == 1 else "Nothing can be said.")
    task = AgentTask(id="x/1", query="What is it?", steps=(), pictures=(png,))
    (done,) = roll_out(brain, [task], tmp_path, Registry({}))
    asked = len(brain.asked)
    assert done.answer and judge(task, done).finished
    assert roll_out(brain, [task], tmp_path, Registry({})) == [done] and len(brain.asked) == asked
