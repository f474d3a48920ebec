import pytest

from pathasst.core.errors import BadDataset
from pathasst.core.records import Abstract
from pathasst.papers.filters import Filters, year_of
from pathasst.papers.words import MAX_TERMS, Words, write_words

ABSTRACTS = {
    1: Abstract(pmid="1", title="Mesotheliomas", abstract="Asbestos exposures.", date="1999", journal="Thorax", types=["Review"]),
    2: Abstract(pmid="2", title="Breast", abstract="Ki-67 labelling of a carcinoma.", date="2005-01", journal="Cancer"),
    3: Abstract(pmid="3", abstract="Sjögren's syndrome and asbestos.", date="", journal="Cancer", retracted=True),
}


@pytest.fixture
def words(tmp_path):
    write_words(tmp_path / "w", ABSTRACTS.items())
    return Words(tmp_path / "w")


def keys(words, query, k=10, **filters):
    return [key for key, _ in words.search(query, k, Filters(**filters))]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("mesothelioma", [1]),
        ("EXPOSED to asbestos", [1, 3]),
        ("ki 67", [2]),
        ("sjogren", [3]),
        ("the of and", []),
        ("", []),
        ("nowhere", []),
        ('text:asbestos AND NOT (((" title:[* TO *] ^~ \\', [1, 3]),
        ("\x00\x01 \u202e", []),
        ("中皮腫 asbestos", [1, 3]),
    ],
)
def test_queries(words, query, found):
    assert sorted(keys(words, query)) == found


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"since": 1999}, [1]),
        ({"until": 2000}, [1]),
        ({"since": 2000}, []),
        ({"retracted": False}, [1]),
        ({"journals": ("cancer", "nature")}, [3]),
        ({"types": ("REVIEW",)}, [1]),
        ({"types": ("Review",), "journals": ("Cancer",)}, []),
    ],
)
def test_filters_narrow_and_leave_the_scores(words, filters, found):
    assert keys(words, "asbestos", **filters) == found
    free = dict(words.search("asbestos", 10))
    assert all(score == pytest.approx(free[key]) for key, score in words.search("asbestos", 10, Filters(**filters)))


def test_long_queries_keep_their_rarest_terms(words):
    query = " ".join(f"w{i}" for i in range(5000)) + " asbestos"
    assert len(words.terms(query)) > MAX_TERMS
    assert sorted(keys(words, query)) == [1, 3]


def test_a_new_version_leaves_the_old_one_as_it_was(tmp_path, words):
    new = Abstract(pmid="4", abstract="More asbestos.")
    write_words(tmp_path / "x", [(4, new)], previous=tmp_path / "w", delete=[1])
    assert sorted(keys(Words(tmp_path / "x"), "asbestos")) == [3, 4]
    assert sorted(keys(Words(tmp_path / "w"), "asbestos")) == sorted(keys(words, "asbestos")) == [1, 3]
    assert len(Words(tmp_path / "w")) == 3


def test_rarity(words):
    assert words.rarity("mesothelioma") > words.rarity("asbesto") > words.rarity("unknown") == 0


def test_damage_is_told(tmp_path, words):
    (tmp_path / "w" / "meta.json").write_text("{")
    with pytest.raises(BadDataset, match="build"):
        Words(tmp_path / "w")


@pytest.mark.parametrize(("date", "year"), [("2001-02", 2001), ("1999", 1999), ("", None), ("May", None), ("20", None)])
def test_years(date, year):
    assert year_of(date) == year
