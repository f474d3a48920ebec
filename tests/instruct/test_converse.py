from __future__ import annotations

import re
from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from instruct_samples import LABELLED, article, labelled

from pathasst.core.errors import BadInput
from pathasst.instruct.check import mentions_caption
from pathasst.instruct.converse import converse, exchanges
from pathasst.instruct.lexicon import lexicon
from pathasst.instruct.wordings import Wordings

WORDINGS = Wordings()
WORDS = lexicon(WORDINGS)
CAPTIONS = st.sampled_from(
    [
        "Kidney biopsy with fibrosis and tubular atrophy, PAS stain. The glomeruli are spared.",
        "Liver with steatosis. No necrosis is seen.",
        "An H&E patch of normal colon tissue",
        "This is a lymphocyte.",
        "Invasive ductal carcinoma of the breast, HER2 immunohistochemistry shows complete staining.",
        "Pap smear with HSIL, Papanicolaou stained.",
    ]
)


def test_turns_alternate_and_only_the_first_shows_the_picture() -> None:
    made = converse(article(), Random(1), WORDINGS)
    assert [t.role for t in made.turns] == ["user", "assistant"] * (len(made.turns) // 2)
    assert [t.content.count("<image>") for t in made.turns] == [1] + [0] * (len(made.turns) - 1)
    assert made.tools == []


def test_yes_and_no_come_equally_often() -> None:
    first: Counter[str] = Counter()
    for n in range(600):
        for e in exchanges(labelled("he", n), Random(n), WORDINGS, 4):
            if e.topic.startswith("is-"):
                first[e.answer.split()[0].strip(",.")] += 1
    assert set(first) == {"Yes", "No"}
    assert first["Yes"] + first["No"] > 150
    assert 0.4 < first["Yes"] / (first["Yes"] + first["No"]) < 0.6


def test_a_no_is_about_a_sibling_that_the_caption_does_not_name() -> None:
    for n in range(200):
        for e in exchanges(labelled("cytology", n), Random(n), WORDINGS, 4):
            if e.topic.startswith("is-") and e.answer.startswith("No"):
                asked = WORDS.find(e.question).all()
                assert asked
                assert not asked & WORDS.find(labelled("cytology").caption).all()


def test_a_denied_finding_is_never_affirmed() -> None:
    for n in range(200):
        for e in exchanges(article(0), Random(n), WORDINGS, 4):
            assert not (e.answer.startswith("Yes") and "granuloma" in e.question.lower())


def test_the_verb_fits_a_plural() -> None:
    said = [
        text
        for n in range(200)
        for e in exchanges(
            article(0, "Granuloma with giant cells, mitoses and lymphocytes of the lung.", split="train"), Random(n), WORDINGS, 6
        )
        for text in (e.question, e.answer)
        if e.topic != "sentence"
    ]
    assert any("giant cells" in t.lower() for t in said)
    assert not any(re.search(r"(?i)giant cells is|is (?:there )?(?:giant cells|lymphocytes)", t) for t in said)


def test_a_caption_that_names_nothing_gives_nothing() -> None:
    with pytest.raises(BadInput, match="nothing-to-ask"):
        converse(article(0, " ".join(["word"] * 60)), Random(0), WORDINGS)


@settings(max_examples=60, deadline=None)
@given(caption=CAPTIONS, seed=st.integers(0, 10**6), split=st.sampled_from(["train", "val", "test"]))
def test_every_answer_is_grounded(caption: str, seed: int, split: str) -> None:
    known = WORDS.find(caption).all()
    for e in exchanges(article(0, caption, split=split), Random(seed), WORDINGS, 4):
        assert not mentions_caption(e.question + " " + e.answer)
        assert WORDS.find(e.answer).all() <= known | set(e.allow)
        if not e.answer.startswith("No"):
            assert WORDS.find(e.answer).all() <= known | {"benign tissue", "normal tissue"}


@pytest.mark.parametrize("domain", LABELLED)
def test_the_same_seed_gives_the_same_conversation(domain: str) -> None:
    assert converse(labelled(domain), Random(5), WORDINGS) == converse(labelled(domain), Random(5), WORDINGS)
