"""Leaderboard files: what is written is read again, files of others are refused with the reason, runs stand side by side."""

import json

import pytest
from typer.testing import CliRunner

from pathasst.cli.evaluate import app
from pathasst.core.errors import BadDataset
from pathasst.core.statistics import Interval
from pathasst.evaluate.leaderboard import Run, Score, compare_runs, is_run, machine, read_run, write_run


def run(model="a", value=0.5, data="d1", **changes):
    span = Interval(value, value - 0.1, value + 0.1)
    scores = [
        Score(task="mhist", split="test", protocol="kNN", metric="macro F1", value=span, n=10, clusters=4, data=data),
        Score(task="mhist", split="test", protocol="kNN", metric="ECE", value=span, n=10, clusters=4, data=data),
    ]
    return Run(model=model, fingerprint="f00", part="classify", scores=scores, command="pathasst eval classify", **changes)


def test_what_is_written_is_read_again(tmp_path):
    write_run(run(seed=3, notes=["a note"]), tmp_path / "deep/a.json")
    assert read_run(tmp_path / "deep/a.json") == run(seed=3, notes=["a note"])
    assert is_run(tmp_path / "deep/a.json") and machine() in (tmp_path / "deep/a.json").read_text()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("half", "no leaderboard file"),
        ("{}", "no leaderboard file of the form"),
        ("[1]", "no leaderboard file"),
        ('{"format": "pathasst-leaderboard/9"}', "but 'pathasst-leaderboard/9'"),
        ('{"format": "pathasst-leaderboard/1", "scores": [{"task": 1}]}', "no leaderboard file"),
    ],
)
def test_other_files_are_refused(tmp_path, content, why):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(BadDataset, match=why):
        read_run(tmp_path / "a.json")


def test_runs_side_by_side():
    table = compare_runs([run(), run("b", 0.7), run("a", 0.6, data="d2")])
    assert table.columns == ["task", "protocol", "metric", "n", "a #1", "b", "a #2", "same data"]
    assert [row[-1] for row in table.rows] == [False, False] and any("cannot be compared" in note for note in table.notes)
    assert [c.value for c in table.rows[0][4:7]] == [0.5, 0.7, 0.6]
    assert table.pictures["Scores"].startswith(b"\x89PNG")
    assert [row[2] for row in compare_runs([run(), run("b")], "ECE").rows] == ["ECE"]
    assert compare_runs([run()]).rows[0][-1] is None
    with pytest.raises(BadDataset, match="called 'AUC'; there are: ECE, macro F1"):
        compare_runs([run()], "AUC")


def test_the_command_takes_any_number_of_files_and_says_what_it_takes(tmp_path):
    for name in "abc":
        write_run(run(name), tmp_path / f"{name}.json")
    paths = [str(tmp_path / f"{n}.json") for n in "abc"]
    done = CliRunner().invoke(app, ["compare", *paths, "--out", str(tmp_path / "out")])
    assert done.exit_code == 0 and "same data" in done.output
    saved = json.loads((tmp_path / "out/leaderboard.json").read_text())
    assert len(saved["rows"]) == 2 and (tmp_path / "out/leaderboard-scores.png").is_file()
    (tmp_path / "d.json").write_text("{}")
    refused = CliRunner().invoke(app, ["compare", *paths, str(tmp_path / "d.json")])
    assert refused.exit_code == 1 and "any number of leaderboard files" in str(refused.exception)
