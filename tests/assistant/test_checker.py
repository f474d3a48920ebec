"""The checker on sentences written by hand: what is supported stays, what is wrong goes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pathasst.assistant.checker import Evidence, Sources, Support, check

FILE = yaml.safe_load(Path(__file__).with_name("checker_pairs.yaml").read_text(encoding="utf-8"))


def verdicts() -> list[tuple[str, str, bool]]:
    """(kind, sentence, whether the checker keeps it) of every pair."""
    rows = []
    for source, sentence, kind in FILE["pairs"]:
        checked = check(sentence, Sources([Evidence("1", FILE["sources"][source])]))
        rows.append((kind, sentence, all(c.support in (Support.SUPPORTED, Support.NEUTRAL) for c in checked)))
    return rows


def test_nothing_wrong_passes_but_what_is_listed_and_most_of_what_is_right_stays() -> None:
    rows = verdicts()
    right = [(s, kept) for kind, s, kept in rows if kind == "supported"]
    passed = [s for kind, s, kept in rows if kind != "supported" and kept]
    lost = [s for s, kept in right if not kept]
    assert len(rows) >= 170
    assert len(passed) <= 2, passed
    assert len(lost) <= 11, lost


@pytest.mark.parametrize(
    "sentence", ["Hello!", "I cannot tell which organ this is.", "Shall I search the literature?", "Please attach a picture."]
)
def test_what_claims_nothing_stays(sentence: str) -> None:
    assert [c.support for c in check(sentence, Sources([]))] == [Support.NEUTRAL]


def test_without_sources_a_claim_has_no_support() -> None:
    assert [c.support for c in check("The tumour is benign. It measures 3 mm.", Sources([]))] == [Support.UNSUPPORTED] * 2


def test_the_persons_words_are_no_evidence() -> None:
    question = Evidence("question", "Is the Ki67 index 80 %?", question=True)
    assert check("The Ki67 index is 80 %.", Sources([question]))[0].support is Support.UNSUPPORTED
