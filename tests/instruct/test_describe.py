from __future__ import annotations

from random import Random

import pytest
from instruct_samples import ARTICLE, article, labelled

from pathasst.core.errors import BadInput
from pathasst.instruct.describe import as_description, describe, word_count
from pathasst.instruct.wordings import Wordings

WORDINGS = Wordings()


@pytest.mark.parametrize(
    ("caption", "said"),
    [
        ("LSIL", "The image shows LSIL."),
        ("An H&E patch of normal colon tissue", "This is an H&E patch of normal colon tissue."),
        ("This is LSIL.", "This is LSIL."),
        (
            "Colon adenocarcinoma, hematoxylin and eosin stain",
            "The image shows colon adenocarcinoma, hematoxylin and eosin stain.",
        ),
        ("Figure 2. Glands are irregular", "Glands are irregular."),
        ("(B) the tumour shows necrosis.", "The tumour shows necrosis."),
        ("  spaced   words are joined ", "Spaced words are joined."),
    ],
)
def test_a_caption_becomes_a_sentence(caption: str, said: str) -> None:
    assert as_description(caption) == said


def test_the_answer_is_the_caption_and_the_pair_comes_along() -> None:
    pair = article(3, group="g", split="val", panels=4)
    made = describe(pair, Random(0), WORDINGS)
    assert made.turns[1].content == ARTICLE
    assert made.turns[0].content.startswith("<image>\n")
    assert (made.pair_id, made.group, made.split, made.panels, made.source) == (pair.pair_id, "g", "val", 4, pair.source)
    assert made.images == [pair.image]
    assert made.kind == "describe"


def test_a_pair_without_a_group_is_grouped_by_its_article() -> None:
    assert describe(article(3), Random(0), WORDINGS).group == "PMC3.1"


def test_a_caption_that_speaks_of_figures_is_left_out() -> None:
    with pytest.raises(BadInput, match="mentions-caption"):
        describe(article(1, "The same as in Figure 1 but with more atypia."), Random(0), WORDINGS)


def test_instructions_vary_and_test_has_its_own() -> None:
    said = {
        split: {describe(labelled("he", 0, split), Random(n), WORDINGS).trail[-1].note for n in range(150)}
        for split in ("train", "val", "test")
    }
    assert len(said["train"]) > 12
    assert not said["train"] & said["test"]
    assert not said["train"] & said["val"]


def test_word_count() -> None:
    assert word_count("A – b, c (d) 5 .") == 5
