"""Predictions are asked once, kept at once, and survive a kill in the middle of a line."""

import json

import pytest

from pathasst.evaluate.asking import bar
from pathasst.evaluate.predictions import UNASKED, Predictions, key_of


def test_only_unknown_keys_are_asked_and_order_is_kept(tmp_path):
    calls = []

    def ask(positions):
        calls.append(positions)
        return [{"said": str(n)} for n in positions]

    keys = [key_of("a"), key_of("b"), key_of("a"), key_of("c")]
    first = Predictions(tmp_path, "t").fill(keys, ask, batch=2)
    assert [v["said"] for v in first] == ["0", "1", "0", "3"]
    assert calls == [[0, 1], [3]]  # the same question twice is asked once
    again = Predictions(tmp_path, "t").fill([*keys, key_of("d")], ask, batch=2)
    assert calls[2:] == [[4]]
    assert again[:4] == first


def test_a_line_cut_off_by_a_kill_costs_that_line(tmp_path):
    keys = [key_of(n) for n in range(3)]
    Predictions(tmp_path, "t").fill(keys, lambda ns: [{"said": str(n)} for n in ns])
    path = tmp_path / "t.jsonl"
    path.write_bytes(path.read_bytes()[:-10])
    asked = []
    again = Predictions(tmp_path, "t").fill(keys, lambda ns: asked.extend(ns) or [{"said": str(n)} for n in ns])
    assert asked == [2]
    assert [v["said"] for v in again] == ["0", "1", "2"]
    assert len([json.loads(line) for line in path.read_text().splitlines() if line.endswith("}}")]) == 3
    assert set(Predictions(tmp_path, "t").values) == set(keys)


def test_what_was_answered_before_an_error_is_kept(tmp_path):
    def failing(positions):
        if 4 in positions:
            raise RuntimeError("server gone")
        return [{"said": str(n)} for n in positions]

    keys = [key_of(n) for n in range(6)]
    with pytest.raises(RuntimeError):
        Predictions(tmp_path, "t").fill(keys, failing, batch=2)
    assert len(Predictions(tmp_path, "t").values) == 4


def test_keys_tell_apart_what_looks_alike():
    assert key_of("ab", "c") != key_of("a", "bc")
    assert key_of(b"1") != key_of(1) != key_of("1")


def test_shares_are_disjoint_and_together_everything(tmp_path):
    keys = [key_of(n) for n in range(40)]
    asked = []
    for number in range(3):

        def ask(positions):
            asked.extend(positions)
            return [{"said": str(n)} for n in positions]

        values = Predictions(tmp_path, "t", (number, 3)).fill(keys, ask)
        assert [v for v in values if v == UNASKED] or number == 2
    assert sorted(asked) == list(range(40))
    whole = Predictions(tmp_path, "t").fill(keys, lambda positions: pytest.fail("all was asked"))
    assert [v["said"] for v in whole] == [str(n) for n in range(40)]


def test_a_bar_is_silent_where_there_is_no_terminal(capsys):
    with bar("questions", 2) as progress:
        progress(2)
    assert capsys.readouterr() == ("", "")
