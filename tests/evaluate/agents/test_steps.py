"""Step by step: the brain sees the right steps so far; what it does next is judged, and asked once."""

import json

import pytest
from evaluate_brains import RuleBrain

from pathasst.core.errors import BadDataset
from pathasst.evaluate.agents.steps import evaluate, places_of
from pathasst.evaluate.agents.trajectory import AgentTask, TrajectoryStep, read_tasks

TASK = AgentTask(
    id="1",
    query="What is the ratio?",
    steps=(
        TrajectoryStep(tool="OCR", result="3 of 4"),
        TrajectoryStep(tool="Calculator", arguments={"expression": "3/4"}, result="0.75"),
    ),
    whitelist=(("0.75",),),
)


def columns(table):
    return {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}


def brain_of(name, *replies):
    """A brain whose reply depends on how many steps went before."""
    seen = []

    class Steps(RuleBrain):
        def reply(self, turns, images, tools):
            seen.append(([t.role for t in turns], [t.name for t in tools]))
            self.rule = lambda words, images, tools: replies[len(turns) // 2]
            return super().reply(turns, images, tools)

    return Steps(None, name=name), seen


def test_a_brain_that_knows_every_step(tmp_path):
    brain, seen = brain_of("right", [("OCR", {})], [("Calculator", {"expression": "3/4"})], "It is 0.75.")
    table, scores = evaluate(brain, [TASK], tmp_path)
    rows = columns(table)
    assert [rows["all"][m].value for m in ("instruction", "tool choice", "arguments", "outcome")] == [1.0] * 4
    assert rows["all"]["n"] == 3 == len(places_of([TASK])) and set(rows) == {"all", "step 1", "step 2", "answer"}
    step = ["assistant", "tool"]
    assert [roles for roles, _ in seen] == [["user"], ["user", *step], ["user", *step, *step]]
    evaluate(brain, [TASK], tmp_path)
    assert len(seen) == 3 and scores


def test_each_slip_costs_its_step_alone(tmp_path):
    brain, _ = brain_of("slips", "I think it is 1.", [("Calculator", {"expression": "4/3"})], [("OCR", {})])
    rows = columns(evaluate(brain, [TASK], tmp_path)[0])
    assert (rows["step 1"]["instruction"].value, rows["step 1"]["tool choice"].value) == (0.0, 0.0)
    assert (rows["step 2"]["tool choice"].value, rows["step 2"]["arguments"].value) == (1.0, 0.0)
    assert (rows["answer"]["instruction"].value, rows["answer"]["outcome"].value) == (0.0, 0.0)
    assert rows["step 1"]["arguments"] is None  # nothing fixes them


def test_tools_of_the_file_are_offered_with_their_arguments(tmp_path):
    tool = {"name": "Calculator", "description": "Computes.", "inputs": [{"name": "expression", "type": "text"}]}
    other = {"name": "OCR", "inputs": [{"name": "image", "type": "image", "optional": True}]}
    dialogs = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "0.75"}]
    (tmp_path / "dataset.json").write_text(json.dumps({"0": {"tools": [tool, other, "Search"], "files": [], "dialogs": dialogs}}))
    (task,) = read_tasks(tmp_path / "dataset.json")
    assert [s.name for s in task.specs] == ["Calculator", "OCR", "Search"] and task.specs[0].description == "Computes."
    assert task.specs[0].parameters["required"] == ["expression"] and task.specs[1].parameters["required"] == []
    assert task.specs[0].parameters["properties"]["expression"]["type"] == "string"
    brain, seen = brain_of("tools", "0.75")
    evaluate(brain, [task], tmp_path)
    assert seen[0][1] == ["Calculator", "OCR", "Search"]
    (tmp_path / "dataset.json").write_text("{}")
    with pytest.raises(BadDataset, match="holds no tasks"):
        read_tasks(tmp_path / "dataset.json")
