"""Tables survive the way to disk and back, the page escapes what it shows, and two runs are compared item by item."""

import numpy as np
import pytest

from pathasst.core.errors import BadDataset
from pathasst.core.statistics import Interval, mean_interval
from pathasst.evaluate import report
from pathasst.evaluate.compare import compare
from pathasst.evaluate.table import Table, print_tables, to_markdown


def table(**values):
    made = Table(
        id="t",
        title="A <b>table</b>",
        columns=["model", "F1"],
        data="set, split test",
        seed=3,
        command="pathasst eval t",
        **values,
    )
    made.add("ours", Interval(0.5, 0.25, 0.75))
    made.add("paper: theirs", None)
    return made


def test_round_trip_and_page(tmp_path):
    made = table(pictures={"Confusion": b"\x89PNG"}, items=[{"part": "p", "id": "1", "said": "<script>x</script>", "score": 0.0}])
    page = report.save([made], tmp_path)
    back = report.load(tmp_path / "t.json")
    assert (back.rows, back.items, back.seed, back.command) == (made.rows, made.items, 3, "pathasst eval t")
    text = page.read_text()
    assert "0.500 [0.250, 0.750]" in text and "left:25.0%;width:50.0%" in text
    assert "<script>x" not in text and "A &lt;b&gt;table" in text
    assert 'class="paper"' in text and "data:image/png;base64," in text
    assert "http://" not in text and "https://" not in text  # nothing from outside


def test_wrong_items_are_shown_in_words():
    items = [
        {"id": "1", "wanted": ["A", "B"], "said": [], "score": 0.0},
        {"id": "2", "calls": [["count", {"um_per_px": 0.5, "subject": "all"}], ["look", {}]], "score": 0.0},
    ]
    text = report.to_html([table(items=items)])
    assert "<td>A, B</td><td>none</td>" in text
    assert "<td>count(um_per_px=0.5, subject=all), look()</td>" in text


def test_markdown_carries_source_and_escapes_bars():
    made = table(notes=["a note"])
    made.add("a|b", 0.12345)
    text = to_markdown(made)
    assert "| a\\|b | 0.123 |" in text and "seed 3" in text and "- a note" in text


def test_terminal_shows_every_row(capsys):
    print_tables([table()])
    shown = capsys.readouterr().out
    assert "0.500 [0.250, 0.750]" in shown and "paper: theirs" in shown and "seed 3" in shown


def test_names_stay_whole_and_long_ones_are_folded_on_a_narrow_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    made = Table(id="t", title="Tools", columns=["requests", *(f"arguments right {n}" for n in range(7))])
    made.add("papers_search", *[Interval(0.5, 0.25, 0.75)] * 7)
    print_tables([made])
    shown = capsys.readouterr().out
    assert "papers_search" in shown and "…" not in shown
    made.add("a brain whose name is longer than any column can be", *[None] * 7)
    print_tables([made])
    assert "…" not in capsys.readouterr().out


def test_brackets_in_texts_are_shown_and_no_markup(capsys):
    made = table(notes=["layout: [[x1, y1, x2, y2] …], <name>[1, 0, 0].png, [/b]"])
    made.add("[bold]model[/]", "[red]")
    print_tables([made])
    shown = capsys.readouterr().out
    assert "layout: [[x1, y1, x2, y2] …], <name>[1, 0, 0].png, [/b]" in shown
    assert "[bold]model[/]" in shown and "[red]" in shown


def test_an_interval_without_width_is_no_certainty():
    made = table()
    assert made.remarks() == []
    made.add("all alike", Interval(1.0, 1.0, 1.0))
    assert "does not make the number sure" in to_markdown(made)


def test_row_of_another_width_is_a_mistake():
    with pytest.raises(ValueError, match="1 cells for 2 columns"):
        table().add("alone")


def test_other_files_are_no_tables(tmp_path):
    (tmp_path / "x.json").write_text("[1]")
    with pytest.raises(BadDataset, match="no saved table"):
        report.load(tmp_path / "x.json")


def run(scores, model="m"):
    items = [
        {"model": model, "id": str(n), "cluster": str(n // 2), "part": "closed", "score": float(s)} for n, s in enumerate(scores)
    ]
    return Table(id="pathvqa", title="PathVQA", columns=[], items=items)


def test_paired_difference_sees_what_two_intervals_hide():
    rng = np.random.default_rng(0)
    hard = rng.random(200) < 0.5
    first = hard.astype(float)
    second = np.where(np.arange(200) % 20 == 0, 1.0, first)  # the same but for a few more right
    found = compare(run(first), run(second, "m2"))
    row = dict(zip(found.columns, found.rows[0], strict=True))
    assert row["n"] == 200 and "first" not in row
    assert row["difference"].value == pytest.approx(second.mean() - first.mean())
    assert row["difference"].low > 0 and row["difference"].high < 0.1
    assert row["excludes 0"] is True
    assert (found.id, found.title) == ("pathvqa-compared", "PathVQA: second run − first run")
    assert found.notes == ["First: m. Second: m2.", "95 % intervals of the paired difference, bootstrap by cluster."]
    same = compare(run(first), run(first))
    assert same.rows[0][4:] == [Interval(0.0, 0.0, 0.0), False]
    pairs = np.arange(200) // 2
    halves = compare(run(np.zeros(200)), run(pairs % 2)).rows[0][4]
    assert halves == mean_interval(pairs % 2, pairs.tolist())  # whole clusters are drawn
    assert halves.high - halves.low > 1.2 * (mean_interval(pairs % 2).high - mean_interval(pairs % 2).low)


def test_models_are_paired_by_place_and_parts_kept_apart():
    def items(model, part, scores):
        return [{"model": model, "part": part, "id": n, "score": s} for n, s in enumerate(scores)]

    one, two = run([]), run([])
    one.items = items("seeing", "closed", [0, 0, 1, 1]) + items("seeing", "open", [0.5]) + items("blind", "closed", [0, 0, 0, 0])
    two.items = (
        items("better", "closed", [1, 1, 1, 1]) + items("better", "open", [0.25]) + [{"model": "better", "part": "open", "id": 9}]
    )
    found = compare(one, two)  # the second run had no blind twin
    assert found.columns[:4] == ["part", "n", "first mean", "second mean"]
    assert [r[:4] for r in found.rows] == [["closed", 4, 0.5, 1.0], ["open", 1, 0.5, 0.25]]
    assert [r[4].value for r in found.rows] == [0.5, -0.25]
    two.items += items("dim", "closed", [0, 0, 0, 1])
    twins = compare(one, two)
    assert twins.columns[:3] == ["part", "first", "second"] and len(twins.notes) == 1
    assert [r[1:4] for r in twins.rows] == [["seeing", "better", 4], ["seeing", "better", 1], ["blind", "dim", 4]]
    two.items = [i for i in two.items if i["model"] != "dim"]
    assert found.seed == 0
    one.columns, one.rows = ["requests", "n"], [["all", 9]]  # a table that has all its parts together
    together = compare(one, two).rows
    assert [r[0] for r in together] == ["all", "closed", "open"]
    assert [r[1] for r in together] == [5, 4, 1]
    assert together[0][4].value == pytest.approx((0.5 * 4 - 0.25) / 5)


def test_items_of_measured_code_have_no_model_and_are_paired_too():
    one, two = (Table(id="curation", title="Curation", columns=[], items=[{"part": "p", "id": "a", "score": s}]) for s in (0, 1))
    found = compare(one, two)
    assert found.rows[0][:4] == ["p", 1, 0.0, 1.0] and len(found.notes) == 1


def test_runs_on_other_items_cannot_be_compared():
    other = run([1.0])
    other.items[0]["id"] = "elsewhere"
    with pytest.raises(BadDataset, match="share no items"):
        compare(run([1.0]), other)


def test_the_command_compares_two_saved_runs(tmp_path):
    from typer.testing import CliRunner

    from pathasst.cli.evaluate import app

    for name, scores in (("old", [0.0, 1.0]), ("new", [1.0, 1.0])):
        report.save([run(scores, name)], tmp_path / name)
    (first,), (second,) = ((tmp_path / name).glob("*.json") for name in ("old", "new"))
    done = CliRunner().invoke(app, ["compare", str(first), str(second)])
    assert done.exit_code == 0, done.output
    assert "0.500 [" in done.output
    same = CliRunner().invoke(app, ["compare", str(first), str(tmp_path / "new/report.html")])
    assert "no saved table" in str(same.exception)
