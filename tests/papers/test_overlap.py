import pytest
from paper_samples import corpus, document, write

from pathasst.papers import BuildSettings, PaperIndex, build
from pathasst.papers.overlap import COVERAGE, FUSED, PAIRS, WordOverlap


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    folder = tmp_path_factory.mktemp("overlap")
    settings = BuildSettings(workers=1, make_vectors=False, vectors_home=folder)
    build([write(folder / "a.xml", document(*corpus(24)))], folder / "i", settings, say=lambda text: None)
    return PaperIndex.open(folder / "i")._words


QUERY = "Asbestos and the pleura of zebrafish"  # no text of the corpus has the last word, so it weighs nothing


@pytest.mark.parametrize(
    ("text", "coverage", "pairs"),
    [
        ("Asbestos in the pleura.", 1, 1),  # stop words are no distance
        ("The pleura. Asbestos!", 1, 0),
        ("Zebrafish.", 0, 0),
        ("", 0, 0),
    ],
)
def test_shares_of_words_and_neighbours(words, text, coverage, pairs):
    found = WordOverlap("Asbestos and the pleura", words).shares(text)
    assert found == pytest.approx((coverage, pairs))
    assert WordOverlap(QUERY, words).shares(text)[0] == pytest.approx(coverage)


def test_rare_words_weigh_more(words):
    rare, common = (
        WordOverlap("asbestos studied", words).shares("asbestos"),
        WordOverlap("asbestos studied", words).shares("studied"),
    )
    assert rare[0] > common[0] > 0
    assert rare[0] + common[0] == pytest.approx(1)


def test_the_score_is_the_weighted_sum(words):
    overlap = WordOverlap("asbestos pleura", words)
    assert overlap("asbestos pleura", 1.0) == pytest.approx(FUSED + COVERAGE + PAIRS) == pytest.approx(1)
    assert overlap("lupus", 0.5) == pytest.approx(FUSED / 2)


@pytest.mark.parametrize("query", ["", "\x00", "of the", "zzz " * 5000])
def test_queries_without_a_known_word(words, query):
    assert WordOverlap(query, words)("asbestos", 0.0) == 0
