from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from fake_llm import FakeServer, body, hang_up, status
from pydantic import BaseModel, Field

from pathasst.core.errors import BadInput, BadSettings, MissingWeights, OverBudget, Unreachable
from pathasst.llm import Client, LLMMessage, LLMSettings, connect


class Answer(BaseModel):
    stain: str
    count: int = Field(ge=0)


def client(server: FakeServer, folder: Path, **changes: object) -> Client:
    settings = LLMSettings(base_url=server.url, model="test", backoff=0.001, **changes)  # type: ignore[arg-type]
    return Client(settings, folder)


def test_answers_are_cached_across_clients_and_cost_once(server: FakeServer, tmp_path: Path) -> None:
    first = client(server, tmp_path, price_in=1.0, price_out=2.0)
    reply = first.ask("hello")
    assert reply.text == "echo: hello"
    assert not reply.cached
    assert reply.cost == pytest.approx((10 * 1 + 5 * 2) / 1e6)
    again = client(server, tmp_path, price_in=1.0, price_out=2.0).ask("hello")
    assert again.cached
    assert again.text == reply.text
    assert len(server.requests) == 1
    assert first.ledger.summary() == "1 calls, 10 tokens read, 5 written, cost 0.0000"


@pytest.mark.parametrize(
    "changes", [{"temperature": 0.7}, {"model": "other"}, {"seed": 3}, {"extra": {"top_p": 0.5}}, {"max_tokens": 9}]
)
def test_whatever_decides_an_answer_is_part_of_the_key(server: FakeServer, tmp_path: Path, changes: dict[str, object]) -> None:
    client(server, tmp_path).text("hello")
    settings = {"base_url": server.url, "model": "test", **changes}
    Client(LLMSettings(**settings), tmp_path).text("hello")  # type: ignore[arg-type]
    assert len(server.requests) == 2
    client(server, tmp_path).text("hello", variant=1)
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    "fault",
    [
        status(429, Retry_After="0"),
        status(500),
        status(503),
        status(408),
        hang_up,
        body("<html>gateway</html>"),
        body('{"choices": []}'),
        body('{"choices": [{"message": {"content": null}}]}'),
        body("[1, 2]"),
    ],
)
def test_a_fault_is_tried_again(server: FakeServer, tmp_path: Path, fault: object) -> None:
    server.faults = [fault, fault, None]  # type: ignore[list-item]
    reply = client(server, tmp_path).ask("hello")
    assert reply.text == "echo: hello"
    assert reply.tries == 3


@pytest.mark.parametrize("code", [400, 401, 403, 404, 422])
def test_a_refusal_is_not_tried_again(server: FakeServer, tmp_path: Path, code: int) -> None:
    server.faults = [status(code)]
    with pytest.raises(Unreachable, match=f"HTTP {code}"):
        client(server, tmp_path).text("hello")
    assert len(server.requests) == 1


def test_a_dead_server_is_named_after_the_allowed_tries(tmp_path: Path) -> None:
    settings = LLMSettings(base_url="http://127.0.0.1:9/v1", attempts=2, backoff=0.001)
    with pytest.raises(Unreachable, match="in 2 tries"):
        Client(settings, tmp_path).text("hello")


def test_a_slow_server_times_out(server: FakeServer, tmp_path: Path) -> None:
    gate = threading.Event()
    server.answer = lambda _: "late" if gate.wait(5) else "never"
    with pytest.raises(Unreachable, match="Timeout"):
        client(server, tmp_path, timeout=0.1, attempts=1).text("hello")
    gate.set()


@pytest.mark.parametrize(("host", "kept"), [("127.0.0.1", 0), ("llm.example.org", 20)])
def test_connections_on_this_machine_are_not_kept(host: str, kept: int) -> None:
    from pathasst.llm.transport import Transport

    url = f"http://{host}:1/v1"
    pool = Transport(LLMSettings(base_url=url, model="m"), url).http._transport._pool  # type: ignore[attr-defined]
    assert pool._max_keepalive_connections >= kept
    assert (pool._max_keepalive_connections == 0) is (kept == 0)


def test_retry_after_is_obeyed_up_to_the_longest_wait(server: FakeServer, tmp_path: Path) -> None:
    waits: list[float] = []
    c = client(server, tmp_path, max_wait=7.0)
    c.transport.sleep = waits.append
    server.faults = [status(429, Retry_After="3"), status(429, Retry_After="900"), status(503)]
    c.text("hello")
    assert waits[:2] == [3.0, 7.0]
    assert 0 < waits[2] < 1


def test_the_key_is_sent_and_never_written(server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret")
    client(server, tmp_path, key_env="MY_KEY").text("hello")
    assert server.headers[0]["Authorization"] == "Bearer sk-secret"
    assert all("sk-secret" not in p.read_text() for p in tmp_path.rglob("*") if p.is_file())


def test_json_keeps_its_schema_and_a_misfit_is_repaired(server: FakeServer, tmp_path: Path) -> None:
    answers = iter(['{"stain": "H&E", "count": -1}', "no JSON at all", 'Sure:\n```json\n{"stain": "H&E", "count": 2}\n```'])
    server.answer = lambda _: next(answers)
    assert client(server, tmp_path).json("which?", Answer) == Answer(stain="H&E", count=2)
    sent = server.requests[0]["response_format"]["json_schema"]
    assert sent["schema"] == Answer.model_json_schema()
    assert "count" in server.requests[1]["messages"][-1]["content"]
    assert len(server.requests) == 3


def test_json_that_never_fits_is_bad_input(server: FakeServer, tmp_path: Path) -> None:
    server.answer = lambda _: "no"
    with pytest.raises(BadInput, match="Answer"):
        client(server, tmp_path, repairs=1).json("which?", Answer)
    assert len(server.requests) == 2


def test_a_server_without_schemas_is_asked_in_simpler_ways(server: FakeServer, tmp_path: Path) -> None:
    server.faults = [status(400), status(400), None]
    server.answer = lambda _: '{"stain": "PAS", "count": 1}'
    c = client(server, tmp_path)
    assert c.json("which?", Answer).stain == "PAS"
    kinds = [r.get("response_format", {}).get("type") for r in server.requests]
    assert kinds == ["json_schema", "json_object", None]
    assert "fits this schema" in server.requests[2]["messages"][-1]["content"]
    c.json("and now?", Answer)
    assert "response_format" not in server.requests[3]  # it remembers


@pytest.mark.parametrize(("finish", "words"), [("length", "cut"), ("content_filter", "filter")])
def test_a_cut_or_withheld_answer_is_bad_input(server: FakeServer, tmp_path: Path, finish: str, words: str) -> None:
    server.finish = finish
    with pytest.raises(BadInput, match=words):
        client(server, tmp_path).text("hello")


def test_the_budget_stops_before_it_is_passed_and_a_higher_one_goes_on(server: FakeServer, tmp_path: Path) -> None:
    server.usage = {"prompt_tokens": 1000, "completion_tokens": 1000}
    price = {"price_in": 100.0, "price_out": 100.0, "max_tokens": 1000}  # 0.2 an answer, at most 0.1002 is reserved
    c = client(server, tmp_path, max_cost=0.45, **price)
    done = 0
    with pytest.raises(OverBudget, match="max-cost"):
        for n in range(10):
            c.text(f"question {n}")
            done += 1
    assert done == 2
    assert c.ledger.cost <= 0.45
    with pytest.raises(OverBudget):  # a new process sees what the first one spent
        client(server, tmp_path, max_cost=0.45, **price).text("question 5")
    richer = client(server, tmp_path, max_cost=1.0, **price)
    assert [richer.ask(f"question {n}").cached for n in range(3)] == [True, True, False]


def test_questions_under_way_count_against_the_budget(server: FakeServer, tmp_path: Path) -> None:
    server.usage = {"prompt_tokens": 1, "completion_tokens": 1000}
    server.answer = lambda _: '{"stain": "PAS", "count": 1}'
    c = client(server, tmp_path, price_out=100.0, max_tokens=1000, max_cost=0.35, parallel=8)
    with pytest.raises(OverBudget):
        c.many([f"q{n}" for n in range(20)], Answer)
    assert c.ledger.cost <= 0.35


def test_many_keeps_the_order_and_puts_a_bad_answer_in_its_place(server: FakeServer, tmp_path: Path) -> None:
    def answer(request: dict[str, object]) -> str:
        said = request["messages"][0]["content"]  # type: ignore[index]
        return "nonsense" if said == "q3" else json.dumps({"stain": said, "count": 1})

    server.answer = answer
    found = client(server, tmp_path, repairs=0, parallel=3).many([f"q{n}" for n in range(6)], Answer)
    assert [f.stain for f in found if isinstance(f, Answer)] == ["q0", "q1", "q2", "q4", "q5"]
    assert isinstance(found[3], BadInput)


def test_a_server_that_reports_no_tokens_is_counted_roughly(server: FakeServer, tmp_path: Path) -> None:
    server.usage = None
    reply = client(server, tmp_path).ask("x" * 400)
    assert reply.tokens_in == 100
    assert reply.tokens_out > 90


def test_damaged_files_are_asked_again(server: FakeServer, tmp_path: Path) -> None:
    c = client(server, tmp_path)
    c.text("hello")
    answer = next((tmp_path / "answers").rglob("*.json"))
    answer.write_text('{"text": ')
    with (tmp_path / "ledger.jsonl").open("a") as ledger:
        ledger.write('{"cost": 99')  # cut by a crash
    fresh = client(server, tmp_path)
    assert not fresh.ask("hello").cached
    assert fresh.ledger.cost == 0


def test_a_killed_run_asks_only_what_is_missing(server: FakeServer, tmp_path: Path) -> None:
    script = textwrap.dedent(
        f"""
        import os, sys
        from pathlib import Path
        from pathasst.llm import Client, LLMSettings
        c = Client(LLMSettings(base_url={server.url!r}, model="test"), Path({str(tmp_path)!r}))
        for n in range(8):
            if n == int(sys.argv[1]):
                os.kill(os.getpid(), 9)
            c.text(f"question {{n}}")
        """
    )
    for stop, expected in [("5", -9), ("99", 0)]:
        assert subprocess.run([sys.executable, "-c", script, stop], check=False).returncode == expected
    assert len(server.requests) == 8


def test_system_and_messages_are_sent_as_given(server: FakeServer, tmp_path: Path) -> None:
    client(server, tmp_path).text([LLMMessage("user", "a"), LLMMessage("assistant", "b"), LLMMessage("user", "c")], system="s")
    assert [m["role"] for m in server.requests[0]["messages"]] == ["system", "user", "assistant", "user"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "base_url"),
        ({"base_url": "http://x/v1", "local": "m"}, "not both"),
        ({"base_url": "ftp://x"}, "http"),
        ({"base_url": "http://x", "schema_mode": "xml"}, "schema_mode"),
        ({"base_url": "http://x", "max_cost": 1.0}, "price"),
        ({"base_url": "http://x", "attempts": 0}, "attempts"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(BadSettings, match=words):
        LLMSettings(**settings)  # type: ignore[arg-type]


def test_presets_can_be_changed_and_unknown_ones_are_refused() -> None:
    assert LLMSettings.preset("ollama", model="qwen3:8b").model == "qwen3:8b"
    with pytest.raises(BadSettings, match="ollama"):
        LLMSettings.preset("nobody")
    with pytest.raises(BadSettings, match="modell"):
        LLMSettings.preset("ollama", modell="x")


def test_a_model_in_this_process_keeps_a_schema(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp", reason="llama.cpp is not installed")
    from pathasst.core import weights

    if not weights.present("smollm2-135m"):
        pytest.skip("smollm2-135m is not here: pathasst models pull smollm2-135m")

    class City(BaseModel):
        city: str = Field(max_length=30)

    c = connect(LLMSettings.preset("smollm2", max_tokens=40, threads=1, parallel=1), tmp_path)
    assert c.json("Name a city in JSON.", City).city
    assert c.ledger.calls == 1
    c.close()


def test_a_missing_local_file_says_so(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp", reason="llama.cpp is not installed")
    with pytest.raises(MissingWeights, match="does not exist"):
        connect(LLMSettings(local=str(tmp_path / "no.gguf")), tmp_path)
