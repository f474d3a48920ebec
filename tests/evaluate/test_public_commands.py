"""The commands on the field's sets show an example, save a table and a leaderboard file, and explain what is missing."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from pathasst.cli.main import app
from pathasst.core.errors import BadDataset

COMMANDS = ("classify", "questions", "beir", "nuclei", "points", "agents", "slidequest", "imageclef", "compare", "sets")


def run(*words):
    return CliRunner().invoke(app, ["eval", *map(str, words)])


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command):
    shown = run(command, "--help")
    assert shown.exit_code == 0 and f"Example: pathasst eval {command}" in " ".join(shown.output.split())


def test_masks(tmp_path):
    for folder in ("truth", "out"):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.kron(np.arange(4).reshape(2, 2), np.ones((9, 9))).astype(np.uint8)).save(tmp_path / folder / "a.png")
    done = run("nuclei", tmp_path / "truth", tmp_path / "out", "--name", "tool", "--out", tmp_path / "eval")
    assert done.exit_code == 0, done.output
    saved = json.loads((tmp_path / "eval/leaderboard/nuclei.json").read_text())
    assert saved["model"] == "tool" and {s["metric"]: s["value"]["value"] for s in saved["scores"]}["PQ"] == 1.0
    assert (tmp_path / "eval/nuclei.md").is_file()
    assert isinstance(run("nuclei", tmp_path, tmp_path / "none").exception, BadDataset)


def test_cells(tmp_path):
    rows = [{"image": f"{i}.png", "x": 9 * n, "y": 5, "label": "pn"[(n + i) % 3 > 1]} for i in range(4) for n in range(8)]
    with (tmp_path / "a.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    done = run("points", tmp_path / "a.csv", tmp_path / "a.csv", "--positive", "p", "--radius", 3, "--out", tmp_path / "eval")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "eval/points-bland-altman-p.png").is_file()


def test_pictures_of_a_folder(tmp_path):
    for n in range(12):
        path = tmp_path / "set" / "ab"[n % 2] / f"{n}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(n).integers(0, 255, (40, 40, 3), np.uint8)).save(path)
    done = run("classify", "--folder", tmp_path / "set", "--out", tmp_path / "eval")
    assert done.exit_code == 0, done.output
    saved = json.loads((tmp_path / "eval/leaderboard/classify.json").read_text())
    assert saved["fingerprint"] and {s["task"] for s in saved["scores"]} == {"set"}


def test_rollouts_of_another_agent(tmp_path):
    (tmp_path / "mine.jsonl").write_text(json.dumps({"id": "ki67_cells/1", "steps": [{"tool": "ki67_cells"}], "answer": "12 %"}))
    done = run("agents", "--rollouts", tmp_path / "mine.jsonl", "--out", tmp_path / "eval")
    assert done.exit_code == 0, done.output
    items = json.loads((tmp_path / "eval/agents.json").read_text())["items"]
    assert next(i for i in items if i["id"] == "ki67_cells/1")["score"] == 1.0
    assert isinstance(run("agents", "--tasks", tmp_path / "t.json", "--rollouts", tmp_path / "mine.jsonl").exception, BadDataset)
