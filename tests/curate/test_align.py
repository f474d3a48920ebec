from __future__ import annotations

import numpy as np
import pytest

from pathasst.core.records import Panel
from pathasst.curate.align import align, join_by_letters
from pathasst.curate.captions.split import SubCaption


def row(letters: str, step: int = 110) -> list[Panel]:
    return [Panel(box=(n * step, 0, n * step + 100, 100), letter=x.strip()) for n, x in enumerate(letters)]


def texts(letters: str) -> list[SubCaption]:
    return [SubCaption(x, f"text {x}") for x in letters]


def pairs(matches) -> list[tuple[int, int]]:
    return [(m.panel, m.caption) for m in matches]


def test_printed_letters_decide_against_order():
    assert pairs(align(row("CAB"), texts("ABC"))) == [(0, 2), (1, 0), (2, 1)]


def test_order_decides_where_no_letter_was_read_and_counts_agree():
    matches = align(row("   "), texts("ABC"))
    assert pairs(matches) == [(0, 0), (1, 1), (2, 2)]
    assert {m.by for m in matches} == {"order"}


def test_without_letters_and_with_unequal_counts_nothing_is_guessed():
    assert align(row("    "), texts("AB")) == []


def test_similarity_finds_the_pairs_that_order_would_miss():
    alike = np.array([[0.1, 0.6, 0.1], [0.1, 0.1, 0.7], [0.8, 0.1, 0.1]])
    assert pairs(align(row("   "), texts("ABC"), alike)) == [(0, 1), (1, 2), (2, 0)]


def test_a_letter_outweighs_similarity_and_a_missing_one_is_left_to_it():
    alike = np.array([[0.1, 0.9], [0.9, 0.1]])
    assert pairs(align(row("A "), texts("AB"), alike)) == [(0, 0), (1, 1)]


def test_a_panel_whose_letter_no_sub_caption_has_stays_alone():
    assert pairs(align(row("ABX"), texts("AB"))) == [(0, 0), (1, 1)]


def test_places_are_matched_by_where_the_panels_lie():
    top = Panel(box=(0, 0, 100, 90))
    bottom = Panel(box=(0, 110, 100, 200))
    matches = align([bottom, top], [SubCaption("TOP", "tumour"), SubCaption("BOTTOM", "stroma")])
    assert pairs(matches) == [(0, 1), (1, 0)]


def test_pictures_under_one_letter_become_one_panel():
    joined = join_by_letters(row("A B "), texts("AB"))
    assert [p.box for p in joined] == [(0, 0, 210, 100), (220, 0, 430, 100)] or [p.letter for p in joined] == ["A", "B"]
    assert len(joined) == 2
    assert join_by_letters(row("A  "), texts("AB")) == row("A  ")


@pytest.mark.parametrize("empty", [([], "AB"), ("AB", [])])
def test_nothing_to_match(empty):
    assert align(row(empty[0]) if empty[0] else [], texts(empty[1]) if empty[1] else []) == []
