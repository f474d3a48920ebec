"""The demo runs as a newcomer runs it, with the shipped and pulled weights, and shows what it promises."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pathasst.cli.demo import MODELS, QUESTIONS
from pathasst.core import weights


def test_all_that_the_shipped_models_are_built_on_is_fetched() -> None:
    shipped = {id_ for id_, model in weights.registry().items() if model.shipped}
    needed = {n for id_ in shipped for n in weights.get(id_).needs} - shipped
    assert "minilm" in needed
    assert needed <= set(MODELS)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder that the demo wrote, and what it printed."""
    if lacking := [id_ for id_ in MODELS if not weights.present(id_)]:
        pytest.skip(f"not fetched: {', '.join(lacking)} (make models)")
    out = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "pathasst.cli.main", "demo", "--out", str(out)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert run.returncode == 0, run.stderr[-2000:]
    return out, run.stdout


def answer(out: Path, number: int) -> dict:
    return json.loads((out / f"answer{number}" / "answer.json").read_text())


def test_every_question_is_answered_and_saved(demo: tuple[Path, str]) -> None:
    out, printed = demo
    for number, (_, question) in enumerate(QUESTIONS, 1):
        saved = answer(out, number)
        assert saved["question"] == question
        assert saved["answer"]
        assert any("Research use only" in notice for notice in saved["notices"])
    assert "What these small models cannot do" in printed
    first = " ".join(printed.partition("Question 1")[2].partition("Question 2")[0].split())
    assert "immunohistochemistry" in first and "breast" not in first.lower()
    assert "organ I cannot tell" in first or "colon" in first
    assert "pathasst doctor" in printed


def test_the_tool_question_runs_the_cell_counter_and_leaves_a_picture(demo: tuple[Path, str]) -> None:
    out, printed = demo
    (step,) = answer(out, 2)["ran"]
    assert step["tool"] == "ki67_cells"
    assert not step["error"]
    assert step["version"].startswith("ki67-embedded@")
    assert len([a for a in step["annotations"] if a["kind"] == "point"]) > 50
    assert list((out / "answer2").glob("*ki67_cells.png"))
    assert "calls ki67_cells" in printed


def test_the_literature_question_cites_only_what_was_retrieved(demo: tuple[Path, str]) -> None:
    saved = answer(demo[0], 3)
    assert [s["tool"] for s in saved["ran"]] == ["papers_search"]
    retrieved = {pmid for step in saved["ran"] for pmid in step["pmids"]}
    assert len(retrieved) == 5
    assert {s["pmid"] for s in saved["sources"]} <= retrieved


def test_data_walks(demo: tuple[Path, str]) -> None:
    out, printed = demo
    assert (out / "pairs" / "report.html").is_file()
    assert (out / "pairs.png").stat().st_size > 10_000
    assert "not_pathology" in printed
    assert "Colonic adenocarcinoma with crowded, irregular glands" in printed
