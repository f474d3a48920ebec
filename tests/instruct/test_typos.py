from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from pathasst.instruct.typos import Typist


@given(st.text(max_size=80), st.integers(0, 1000))
def test_a_careful_typist_changes_nothing(text: str, seed: int) -> None:
    typist = Typist(Random(seed), 0.0)
    assert typist(text) == text
    assert typist.finish(text) == text


@given(st.lists(st.sampled_from(["nucleus", "positive", "12", "ki67", "cells"]), min_size=1, max_size=12), st.integers(0, 1000))
def test_a_slip_keeps_numbers_and_the_count_of_words(words: list[str], seed: int) -> None:
    text = Typist(Random(seed), 1.0)(" ".join(words))
    assert len(text.split()) == len(words)
    assert [w for w in text.split() if w in ("12", "ki67")] == [w for w in words if w in ("12", "ki67")]


def test_sloppy_typing_makes_slips() -> None:
    text = "please determine the proliferation index of these malignant nuclei"
    said = {Typist(Random(n), 1.0)(text) for n in range(60)}
    assert len(said) > 10
