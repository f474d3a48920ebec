"""The stage with a language model behind a real HTTP server on loopback: side by side, cached, retried, budgeted, resumed."""

from __future__ import annotations

import json
import threading

import pytest
from curate_samples import compound, figure, texture
from fake_llm import FakeServer, status
from typer.testing import CliRunner

from pathasst.cli.main import app
from pathasst.core.errors import BadSettings, OverBudget, Unreachable
from pathasst.core.records import Pair
from pathasst.curate import pipeline
from pathasst.curate.settings import CurateSettings
from pathasst.dataset import read

WORDS = ("Kidney", "Liver", "Colon", "Breast")


def answer(body: dict) -> str:
    """Splits "Organ tissue. (A) Large glands. (B) Pale stroma." and gives captions back unchanged."""
    said = body["messages"][-1]["content"].split("\n\nAnswer with nothing")[0]
    if "(A)" not in said:
        return json.dumps({"caption": said})
    organ = said.split()[0]
    parts = {"A": f"{organ} tissue. Large glands.", "B": f"{organ} tissue. Pale stroma."}
    return json.dumps({"panels": [{"letter": k, "caption": v} for k, v in parts.items()]})


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("PATHASST_CACHE", str(tmp_path / "cache"))
    fake = FakeServer()
    fake.answer = answer
    yield fake
    fake.stop()


@pytest.fixture
def figures(figures_dataset):
    sheets = [compound([texture(2 * n), texture(2 * n + 1)], 2) for n in range(4)]
    some = [
        figure(f"f{n}", s, f"{w} tissue. (A) Large glands. (B) Pale stroma.")
        for n, (s, w) in enumerate(zip(sheets, WORDS, strict=True))
    ]
    return figures_dataset({"00000": some[:2], "00001": some[2:]})


def settings(server: FakeServer, **llm: object) -> CurateSettings:
    given = {"preset": "pathasst-caption", "base_url": server.url, "backoff": 0.0, **llm}
    return CurateSettings(select="", captions="llm", llm=given, letters=False, val=0.0, test=0.0)


def test_the_papers_caption_tool_splits_and_refines_and_a_broken_answer_is_asked_for_again(server, figures, tmp_path):
    server.faults = [status(503), None, status(429)]
    pipeline.run(figures, tmp_path / "pairs", settings(server), progress=False)
    pairs = list(read(tmp_path / "pairs", Pair))
    assert [p.caption for p in pairs[:2]] == ["Kidney tissue. Large glands.", "Kidney tissue. Pale stroma."]
    assert len(pairs) == 8
    assert {m.by for p in pairs for m in p.trail if m.step in ("captions", "refine")} == {"llm"}
    assert {r["model"] for r in server.requests} == {"pathasst_caption_tool"}
    assert len(server.requests) == 4 + 8 + 2


def test_questions_of_several_figures_are_under_way_at_a_time_and_pairs_keep_their_order(server, figures, tmp_path):
    together = threading.Barrier(2, timeout=20)  # breaks, and the answers fail, where questions come one by one

    def slow(body: dict) -> str:
        if "(A)" in body["messages"][-1]["content"]:
            together.wait()
        return answer(body)

    server.answer = slow
    pipeline.run(figures, tmp_path / "pairs", settings(server, parallel=2), progress=False)
    assert not together.broken
    organs = [p.caption.split()[0] for p in read(tmp_path / "pairs", Pair)]
    assert organs == [w for w in WORDS for _ in range(2)]


def test_a_run_that_the_budget_or_the_server_ends_goes_on_and_pays_for_nothing_twice(server, figures, tmp_path):
    prices = {"price_in": 0.0, "price_out": 1000.0, "max_tokens": 100, "parallel": 1}  # an answer of 5 tokens costs 0.005
    with pytest.raises(OverBudget):
        pipeline.run(figures, tmp_path / "pairs", settings(server, **prices, max_cost=0.12), progress=False)
    paid = len(server.requests)
    assert 0 < paid < 12
    server.faults = [status(500)] * 3
    with pytest.raises(Unreachable):
        pipeline.run(figures, tmp_path / "pairs", settings(server, **prices, max_cost=9.0, attempts=3), progress=False)
    shards = sorted(p.name for p in (tmp_path / "pairs" / "candidates").glob("*.parquet"))
    times = {p: (tmp_path / "pairs" / "candidates" / p).stat().st_mtime_ns for p in shards}
    pipeline.run(figures, tmp_path / "pairs", settings(server, **prices, max_cost=9.0), progress=False)
    assert len(server.requests) == 12 + 3  # each of the 12 questions was answered once
    assert len(list(read(tmp_path / "pairs", Pair))) == 8
    assert all((tmp_path / "pairs" / "candidates" / p).stat().st_mtime_ns == t for p, t in times.items())


def test_a_budget_without_prices_and_an_unknown_preset_are_refused_before_any_work(server, figures, tmp_path):
    for llm, message in (({"max_cost": 1.0}, "prices"), ({"preset": "magic"}, "no LLM preset")):
        with pytest.raises(BadSettings, match=message):
            pipeline.run(figures, tmp_path / "pairs", settings(server, **llm), progress=False)
    assert not (tmp_path / "pairs").exists()
    assert server.requests == []


def test_the_command_line_sets_server_model_and_budget(server, figures, tmp_path):
    out = tmp_path / "pairs"
    told = ["curate", figures, "--out", str(out), "--select", "", "--similarity", "none", "--llm", server.url]
    run = CliRunner().invoke(app, [*told, "--llm-model", "m", "--price-in", "1", "--price-out", "1", "--max-cost", "0.00001"])
    assert isinstance(run.exception, OverBudget | SystemExit) and run.exit_code
    assert server.requests == []
    run = CliRunner().invoke(app, [*told, "--llm-model", "m", "--price-in", "1", "--price-out", "1", "--max-cost", "1"])
    assert run.exit_code == 0, run.output
    assert {r["model"] for r in server.requests} == {"m"}
