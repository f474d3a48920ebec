from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from instruct_samples import ARTICLE

from pathasst.instruct.check import faults, mentions_caption, new_word_share, numbers
from pathasst.instruct.lexicon import lexicon
from pathasst.instruct.wordings import Wordings

WORDS = lexicon(Wordings())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("The image shows adenocarcinoma of the colon with necrosis.", ""),
        ("Irregular glands infiltrate the muscularis.", ""),
        ("Colonic tissue, haematoxylin and eosin.", ""),
        ("The caption says adenocarcinoma.", "mentions-caption"),
        ("As shown in Figure 2, glands are irregular.", "mentions-caption"),
        ("According to the text, there is necrosis.", "mentions-caption"),
        ("There is necrosis in 13 fields.", "new-number"),
        ("Adenocarcinoma of the lung.", "new-entity"),
        ("Irregular glands, positive for CK20.", "new-entity"),
        ("Adenocarcinoma with fibrosis.", "new-entity"),
        ("Delicate papillary fronds with psammomatous concretions float freely.", "new-words"),
    ],
)
def test_faults(text: str, reason: str) -> None:
    found = faults(text, ARTICLE, WORDS)
    assert found == [] if not reason else reason in found


def test_a_word_that_only_looks_like_a_term_does_not_hold_it() -> None:
    caption = "Lung cancer cells formed each colony in soft agar. Many colonies."
    assert "new-entity" in faults("Colon cancer cells formed each colony.", caption, WORDS)
    assert faults("Lymphocytes of the lung.", "Lymphocytic infiltrate of the lung.", WORDS) == []


def test_what_a_question_brings_in_may_be_denied() -> None:
    assert "new-entity" in faults("No, it is not lymphoma.", ARTICLE, WORDS)
    assert faults("No, it is not lymphoma.", ARTICLE, WORDS, allow=("lymphoma",)) == []


@pytest.mark.parametrize(
    ("text", "mentions"),
    [
        ("Many mitotic figures are seen.", False),
        ("Mitotic figures (arrow); see Figure 3.", True),
        ("The legend lists them.", True),
        ("Panel B shows more.", True),
        ("A context of inflammation.", False),
        ("The authors found atypia.", True),
        ("A configuration of glands.", False),
        ("Tall villi are seen in picture (b).", True),
        ("In this image a gland is seen.", False),
    ],
)
def test_mentions_caption(text: str, mentions: bool) -> None:
    assert mentions_caption(text) is mentions


def test_numbers_read_thousands_and_leave_names_alone() -> None:
    assert numbers("1,234 cells of CD20 in 3.5 mm") == ["1234", "3.5"]


def test_spellings_and_endings_are_not_new_words() -> None:
    assert new_word_share("haemorrhagic tumours", "hemorrhage in a tumor") == 0.0


@given(st.lists(st.sampled_from(ARTICLE.split()), min_size=1, max_size=25))
def test_words_of_the_caption_are_always_grounded(words: list[str]) -> None:
    assert "new-words" not in faults(" ".join(words), ARTICLE, WORDS)
    assert "new-number" not in faults(" ".join(words), ARTICLE, WORDS)


@given(st.integers(min_value=13, max_value=10**6))
def test_a_number_from_elsewhere_never_passes(number: int) -> None:
    assert "new-number" in faults(f"There are {number} glands.", ARTICLE, WORDS)
