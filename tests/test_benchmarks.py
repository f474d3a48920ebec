"""README, docs/performance.md, docs/measured/instruct.md: their tables come from results and wordings; nothing is typed."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from pathasst.core.statistics import Interval

SCRIPTS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def scripts() -> dict[str, ModuleType]:
    """The two modules of `benchmarks/`, which is a folder of scripts and no package."""
    sys.path.insert(0, str(SCRIPTS))
    yield {name: importlib.import_module(name) for name in ("measured", "run")}
    sys.path.remove(str(SCRIPTS))


def test_the_pages_are_made_from_the_results(scripts) -> None:
    for page, text in scripts["run"].tables().items():
        assert page.read_text(encoding="utf-8") == text, f"{page.name} differs: python benchmarks/run.py --tables"


def test_no_row_has_a_typed_result() -> None:
    for row in yaml.safe_load((SCRIPTS / "rows.yaml").read_text(encoding="utf-8")):
        for column in ("data", "result"):
            typed = re.sub(r"\{[^}]*\}", "", row[column])
            assert not re.search(r"(?<![@\w])(\d*\.\d+|\d{2,})(?! px)", typed), f"{row['what']}: {typed}"


def test_every_result_belongs_to_a_benchmark_that_can_make_it(scripts) -> None:
    known = {b.name: b for b in scripts["run"].BENCHES}
    assert set(scripts["measured"].load()) <= set(known)
    for bench in known.values():
        script = Path(bench.command()[1])
        assert not bench.seconds or "command_line(" in script.read_text(encoding="utf-8"), f"{script.name} keeps no result"


def test_bench_fits_into_its_quarter_of_an_hour(scripts, monkeypatch, capsys) -> None:
    run = scripts["run"]
    assert sum(b.seconds for b in run.BENCHES) <= run.BUDGET
    begun, clock = [], [0.0]

    def slow(bench: object) -> str:
        begun.append(bench.name)
        clock[0] += run.BUDGET - 50  # the first takes far longer than it should
        return ""

    monkeypatch.setattr(run, "run", slow)
    monkeypatch.setattr(run.time, "monotonic", lambda: clock[0])
    run.run_all()
    order = sorted((b for b in run.BENCHES if b.seconds), key=lambda b: b.seconds)
    assert begun == [b.name for b in order[:2]]  # 50 s are left for the second; then nothing is
    assert capsys.readouterr().out.count("not begun") == len(order) - 2


def test_a_benchmark_without_its_data_is_named(scripts, monkeypatch) -> None:
    monkeypatch.delenv("PATHASST_DATA", raising=False)
    run = scripts["run"]
    assert run.run(run.Bench("collect_jats", "", needs_data=True, seconds=1)) == "PATHASST_DATA is not set"
    assert all(b.name in run.listing() for b in run.BENCHES)


def test_a_result_comes_back_with_what_made_it(scripts, tmp_path) -> None:
    measured = scripts["measured"]
    values = {"n": 1234, "a b": {"R@1": Interval(0.8991, 0.8687, 0.9225)}, "table": {"columns": ["x"], "rows": [[0.5]]}}
    measured.save(tmp_path / "some.json", values, command="python benchmarks/some.py")
    kept = measured.load(tmp_path)["some"]
    assert kept.command == "python benchmarks/some.py"
    assert {"machine", "date", "commit", "seconds"} <= kept.keys()
    assert "{n:,}; {a b[R@1]:.3f}; {a b[R@1].low:.1f}".format_map(kept["values"]) == "1,234; 0.899 (0.869–0.922); 0.9"
    assert measured.section(kept).splitlines()[2:] == ["| x |", "| --- |", "| 0.5 |"]
    del kept["values"]["table"]
    n, r = measured.section(kept).split("\n\n")[1:]
    assert n.splitlines() == ["| of | n |", "| --- | --- |", "| all | 1,234 |"]
    assert r.splitlines() == ["| of | R@1 |", "| --- | --- |", "| a b | 0.899 (0.869–0.922) |"]


def test_a_row_without_its_value_is_named(scripts, tmp_path) -> None:
    row = {"what": "cells", "data": "{some.n} fields", "result": "{some.f2:.3f}", "command": "x"}
    (tmp_path / "rows.yaml").write_text(yaml.safe_dump([row]))
    results = {"some": json.loads('{"values": {"n": 3}}', object_hook=scripts["measured"].Values)}
    with pytest.raises(SystemExit, match=r"'cells'.*'f2' is not among n"):
        scripts["measured"].readme_table(results, tmp_path / "rows.yaml")
    with pytest.raises(SystemExit, match="lacks the marks"):
        scripts["measured"].with_table("no marks", "| table |")


def test_a_table_of_eval_becomes_values(scripts, tmp_path) -> None:
    columns = ["requests", "n", "right"]
    rows = [["all", 3, {"value": 0.5, "low": 0.1, "high": 0.9}], ["none", 1, None]]
    (tmp_path / "tools.json").write_text(json.dumps({"columns": columns, "rows": rows, "items": [1]}))
    found = scripts["measured"].from_file(tmp_path / "tools.json")
    assert found["all"]["n"] == 3 and found["all"]["right"]["low"] == 0.1
    assert found["table"]["rows"][1] == ["none", 1, "–"]
