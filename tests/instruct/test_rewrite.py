from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from fake_llm import FakeServer, status
from instruct_samples import ARTICLE, article, write_pairs
from typer.testing import CliRunner

from pathasst import dataset
from pathasst.cli.main import app
from pathasst.core.errors import OverBudget, Unreachable
from pathasst.core.records import Conversation
from pathasst.instruct.pipeline import InstructSettings, run

GOOD = "Colonic tissue stained with hematoxylin and eosin. Irregular glands of adenocarcinoma infiltrate the muscularis."
BAD = "The lung shows lymphoma with CD20 positivity in 40 percent."
EXCHANGES = [
    {"question": "Which organ is shown?", "answer": "It is the colon."},
    {"question": "Is there a granuloma?", "answer": "No, no granuloma is seen."},
    {"question": "What does the caption say?", "answer": "The caption says adenocarcinoma."},
    {"question": "What is the diagnosis?", "answer": "Lymphoma of the spleen."},
]


def answer(body: dict[str, Any]) -> str:
    properties = body["response_format"]["json_schema"]["schema"]["properties"]
    return json.dumps({"description": f"{GOOD} {BAD}"} if "description" in properties else {"exchanges": EXCHANGES})


def settings(server: FakeServer, **more: Any) -> InstructSettings:
    return InstructSettings(invoke=0, llm={"base_url": server.url, "model": "m", "backoff": 0.001, **more})


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "pairs", [article(n, f"{ARTICLE} Case{n}.") for n in range(6)])


def test_what_is_not_grounded_is_left_out_and_counted(server: FakeServer, pairs: Path, tmp_path: Path) -> None:
    server.answer = answer
    manifest = run([pairs], tmp_path / "out", settings(server), progress=False)
    made = list(dataset.read(tmp_path / "out", Conversation))
    descriptions = [c for c in made if c.kind == "describe"]
    assert {c.turns[1].content for c in descriptions} == {GOOD}
    assert {m.by for c in made for m in c.trail} == {"llm:m"}
    talks = [c for c in made if c.kind == "converse"]
    assert [t.content for t in talks[0].turns] == [
        "<image>\nWhich organ is shown?",
        "It is the colon.",
        "Is there a granuloma?",
        "No, no granuloma is seen.",
    ]
    assert manifest.dropped == {"ungrounded-new-number": 6, "ungrounded-mentions-caption": 6, "ungrounded-new-entity": 6}


def test_where_the_model_gives_nothing_the_wordings_step_in(server: FakeServer, pairs: Path, tmp_path: Path) -> None:
    server.answer = lambda body: json.dumps({"description": BAD}) if "description" in answer(body)[:20] else "no JSON"
    manifest = run([pairs], tmp_path / "out", settings(server, repairs=0), progress=False)
    made = list(dataset.read(tmp_path / "out", Conversation))
    assert len([c for c in made if c.kind == "describe"]) == 6
    assert {m.by for c in made for m in c.trail} == {"template"}
    assert manifest.dropped["llm-answer"] == 6


def test_a_run_stopped_by_its_budget_goes_on_with_a_higher_one(server: FakeServer, pairs: Path, tmp_path: Path) -> None:
    server.answer = answer
    server.usage = {"prompt_tokens": 500, "completion_tokens": 500}
    price = {"price_in": 100.0, "price_out": 100.0, "max_tokens": 500, "parallel": 1}  # 0.1 an answer
    with pytest.raises(OverBudget, match="max-cost"):
        run([pairs], tmp_path / "out", settings(server, max_cost=0.75, **price), progress=False)
    asked = len(server.requests)
    assert 5 <= asked <= 8
    run([pairs], tmp_path / "out", settings(server, max_cost=9.0, **price), progress=False)
    assert len(server.requests) == 12  # six pairs, two questions each, none asked twice
    assert dataset.count(tmp_path / "out") == 12


@pytest.mark.parametrize("calls", [1, 4, 9])
def test_a_run_killed_at_any_call_goes_on_to_the_same_bytes(server: FakeServer, pairs: Path, tmp_path: Path, calls: int) -> None:
    server.answer = answer
    script = textwrap.dedent(
        f"""
        import os
        from pathasst.instruct.pipeline import InstructSettings, run
        from pathasst.llm import client
        seen = [0]
        paid = client.Client._paid
        def dying(self, *arguments):
            seen[0] += 1
            if seen[0] > {calls}:
                os.kill(os.getpid(), 9)
            return paid(self, *arguments)
        client.Client._paid = dying
        llm = {{"base_url": {server.url!r}, "model": "m", "backoff": 0.001, "parallel": 1}}
        run([{str(pairs)!r}], {str(tmp_path / "out")!r}, InstructSettings(invoke=0, llm=llm), progress=False)
        """
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    assert len(server.requests) == calls
    run([pairs], tmp_path / "out", settings(server, parallel=1), progress=False)
    assert len(server.requests) == 12
    run([pairs], tmp_path / "whole", settings(server, parallel=1), progress=False)
    shards = [{p.name: p.read_bytes() for p in (tmp_path / f).glob("*.parquet")} for f in ("out", "whole")]
    assert shards[0] == shards[1]


def test_a_dead_server_stops_the_run_and_keeps_what_was_answered(server: FakeServer, pairs: Path, tmp_path: Path) -> None:
    server.answer = answer
    server.faults = [None, None, None, *[status(503)] * 40]
    with pytest.raises(Unreachable, match="503"):
        run([pairs], tmp_path / "out", settings(server, attempts=2, parallel=1), progress=False)
    server.faults = []
    before = len(server.requests)
    run([pairs], tmp_path / "out", settings(server, attempts=2, parallel=1), progress=False)
    assert len(server.requests) - before == 9


def test_edited_prompts_are_sent(server: FakeServer, pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "words" / "prompts").mkdir(parents=True)
    (tmp_path / "words" / "prompts" / "describe.txt").write_text("Describe like a poet.")
    server.answer = answer
    made = settings(server).replace(llm_writes=["describe"], wordings=str(tmp_path / "words"))
    run([pairs], tmp_path / "out", made, progress=False)
    assert {r["messages"][0]["content"] for r in server.requests} == {"Describe like a poet."}
    assert {r["messages"][-1]["content"] for r in server.requests} == {f"{ARTICLE} Case{n}." for n in range(6)}


def test_the_command_asks_the_named_server(server: FakeServer, pairs: Path, tmp_path: Path) -> None:
    server.answer = answer
    asked = ["--llm", server.url, "--llm-model", "m7", "--price-in", "1", "--price-out", "1", "--max-cost", "2", "--invoke", "0"]
    result = CliRunner().invoke(app, ["instruct", str(pairs), "--out", str(tmp_path / "out"), *asked])
    assert result.exit_code == 0, result.output
    assert {r["model"] for r in server.requests} == {"m7"}
    assert "ungrounded-new-number" in result.output
