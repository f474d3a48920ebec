"""The three closed rules and three open measures, on cases made by hand, the known loopholes among them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pathasst.evaluate.answers import (
    closed_llava_med,
    closed_quilt,
    closed_strict,
    exact_match,
    is_closed,
    normalised,
    recall,
    token_f1,
)


@pytest.mark.parametrize(
    ("said", "answer", "strict", "llava_med", "quilt"),
    [
        ("Yes", "yes", True, True, True),
        ("I would say yes", "yes", True, True, True),  # the first yes or no need not be the first word
        ("yes, it is not benign", "yes", True, True, False),  # quilt: "not" anywhere makes it a no
        ("The tissue is normal", "no", None, True, False),  # LLaVA-Med's loophole: "normal" holds "no"
        ("I cannot tell", "no", None, True, False),  # "cannot" holds "no"
        ("It is malignant", "yes", None, False, True),  # quilt's loophole: whatever has no "no" counts as yes
        ("It is malignant", "no", None, False, False),
        ("no yes", "yes", False, True, False),  # both words: LLaVA-Med accepts either
        ("Yes", "no", False, False, False),
        ("", "no", None, False, False),
        ("", "yes", None, False, True),
        ("NO", "no", True, True, False),  # quilt knows No, not and no, but not NO
        ("Nothing abnormal", "no", None, True, False),
        ("eyes", "yes", None, True, True),
        ("Yes", " Yes ", True, True, True),  # references are written in many ways
        ("Yes", "Yes.", True, False, False),  # only ours looks past the point
        ("No, benign", "no", True, True, True),
        ("No.", "no", True, True, True),
    ],
)
def test_closed_rules(said, answer, strict, llava_med, quilt):
    assert closed_strict(said, answer) is strict
    assert closed_llava_med(said, answer) is llava_med
    assert closed_quilt(said, answer) is quilt


@pytest.mark.parametrize(
    ("said", "answer", "f1", "exact", "share"),
    [
        ("the colon", "Colon.", 1.0, True, 1.0),
        ("colon", "lung", 0.0, False, 0.0),
        ("benign colon tissue", "colon tissue", 0.8, False, 1.0),
        ("colon colon colon", "colon", 0.5, False, 1.0),  # multiset: repeating a word does not help
        ("tumor", "tumor tumor", 2 / 3, False, 1.0),
        ("", "lung", 0.0, False, 0.0),
        ("H&E-stain", "h e stain", 1.0, True, 1.0),
        ("an apple", "a pear", 0.0, False, 0.0),  # articles do not count
        ("colon", "the", 0.0, False, 0.0),  # a reference of articles alone: nothing to find
        ("", "a", 1.0, True, 0.0),
    ],
)
def test_open_measures(said, answer, f1, exact, share):
    assert token_f1(said, answer) == pytest.approx(f1)
    assert exact_match(said, answer) is exact
    assert recall(said, answer) == pytest.approx(share)


def test_a_long_answer_buys_recall_but_not_f1():
    everything = "colon lung breast liver kidney skin tumor normal"
    assert recall(everything, "breast") == 1.0
    assert token_f1(everything, "breast") < 0.25


@pytest.mark.parametrize(
    ("answer", "closed"), [("yes", True), ("No.", True), (" NO ", True), ("none", False), ("yes, both", False)]
)
def test_is_closed(answer, closed):
    assert is_closed(answer) is closed


@given(st.text(), st.text())
def test_measures_are_bounded_and_symmetric_where_they_must_be(a, b):
    assert 0.0 <= token_f1(a, b) <= 1.0
    assert token_f1(a, b) == pytest.approx(token_f1(b, a))
    assert exact_match(a, b) == (normalised(a) == normalised(b))
    assert not exact_match(a, b) or token_f1(a, b) == 1.0
