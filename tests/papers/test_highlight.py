import pytest

from pathasst.core.records import Abstract
from pathasst.core.text import sentences
from pathasst.papers.highlight import best_sentences
from pathasst.papers.words import Words, write_words

TEXT = (
    "BACKGROUND: Ki-67 was scored by two readers. Nothing came of it.\n"
    "RESULTS: In E. coli (p < 0.05) vs. controls we saw less. Mean Ki-67 index was 3.4 (SD 1.2) in carcinoma. The end!"
)


@pytest.fixture
def words(tmp_path):
    rows = [(1, Abstract(pmid="1", abstract=TEXT)), (2, Abstract(pmid="2", abstract="A carcinoma. Readers scored it."))]
    write_words(tmp_path / "w", rows)
    return Words(tmp_path / "w")


def test_the_best_sentences_in_the_order_of_the_text(words):
    assert best_sentences("Ki-67 index of carcinoma", TEXT, words) == [sentences(TEXT)[0], sentences(TEXT)[3]]
    assert best_sentences("ki-67 index", TEXT, words, count=1) == [sentences(TEXT)[3]]


@pytest.mark.parametrize("query", ["", "the of", "zebra", "Лимфома", "x" * 5000])
def test_nothing_shared_nothing_shown(words, query):
    assert best_sentences(query, TEXT, words) == []


def test_every_sentence_is_part_of_the_text(words):
    assert all(s in TEXT for s in best_sentences("readers controls carcinoma", TEXT, words, count=9))
