from __future__ import annotations

import pytest
from instruct_samples import labelled

from pathasst.instruct.invoke import Invoker
from pathasst.instruct.measure import SplitOverlap, overlaps, summary, user_templates, words
from pathasst.instruct.wordings import Wordings
from pathasst.tools.registry import all_specs


@pytest.fixture(scope="module")
def nearness() -> list[SplitOverlap]:
    return overlaps(Wordings())


def test_no_test_wording_is_a_train_wording(nearness: list[SplitOverlap]) -> None:
    assert not set(user_templates(Wordings(), "train")) & set(user_templates(Wordings(), "test"))
    assert max(o.jaccard for o in nearness) <= 0.6
    assert max(o.ngram for o in nearness) <= 4


def test_there_are_hundreds_of_wordings() -> None:
    assert len(user_templates(Wordings(), "train")) > 1000
    assert len(user_templates(Wordings(), "test")) > 330


def test_slots_are_masked() -> None:
    assert words("Count the {Ki67} cells, please.") == ["count", "the", "_", "cells", "please"]


def test_summary_counts_what_is_there() -> None:
    invoker = Invoker(all_specs(), Wordings())
    made = [invoker.make(n, {"train": {"he": [labelled("he")]}}) for n in range(60)]
    s = summary(made)
    assert sum(s.kinds.values()) == 60
    assert sum(s.tools.values()) == sum(len(t.tool_calls) for c in made for t in c.turns)
    assert {split for split, _ in s.kinds} == set(s.wordings)
