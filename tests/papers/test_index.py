import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from paper_samples import TOPICS, corpus, document, record, write

from pathasst.core import weights
from pathasst.core.errors import BadDataset, BadSettings, MissingWeights
from pathasst.papers import BuildSettings, Filters, PaperIndex, SearchSettings, build
from pathasst.papers.embed import text_of
from pathasst.papers.index import clean_query, default_home, scaled
from pathasst.papers.overlap import WordOverlap

EXTRA = [
    record(1, title="Reviewed asbestos.", abstract="Asbestos again.", types=("Review",), year="2020", journal="Thorax"),
    record(2, title="Withdrawn asbestos.", abstract="Asbestos.", types=("Retracted Publication",), year="2021"),
    record(3, title="Undated asbestos.", abstract="Asbestos.", year="unknown"),
]


@pytest.fixture(scope="module")
def home(minilm, tmp_path_factory):
    folder = tmp_path_factory.mktemp("papers")
    file = write(folder / "a.xml", document(*corpus(64), *EXTRA))
    build([file], folder / "index", BuildSettings(workers=1, vectors_home=folder / "vectors"), say=lambda text: None)
    return folder / "index"


@pytest.fixture(scope="module")
def index(home):
    return PaperIndex.open(home)


def test_meaning_is_found_without_the_words(index):
    query = "proliferation marker and relapse of mammary tumours"
    assert index.search(query, 1, "vectors")[0].title.startswith("Ki-67")
    hit = index.search("Ki-67 recurrence breast", 1)[0]
    assert (hit.title, hit.year, hit.journal) == (f"{TOPICS[0]}.", int(hit.year), "Journal of Tests")
    assert hit.highlights[0] in hit.passage


@pytest.mark.parametrize("fusion", ["scores", "ranks"])
def test_fusion_sums_both_rankings(home, fusion):
    index = PaperIndex.open(home, SearchSettings(fusion=fusion, words=0.3, read=0))
    text, expected = "asbestos and the pleura", {}
    for mode, weight in (("words", 0.3), ("vectors", 0.7)):
        ranking = index.rank(text, 100, mode)
        shares = scaled(ranking, 100) if fusion == "scores" else [1 / (10 + rank) for rank in range(1, len(ranking) + 1)]
        for (key, _), share in zip(ranking, shares, strict=True):
            expected[key] = expected.get(key, 0) + weight * share
    found = index.rank(text, 100)
    assert dict(found) == pytest.approx(expected)
    assert [s for _, s in found] == sorted(expected.values(), reverse=True)


def test_the_best_are_read_and_ordered_by_what_they_hold(home):
    text = "asbestos and the pleura"
    fused = PaperIndex.open(home, SearchSettings(read=0)).rank(text, 40)
    index = PaperIndex.open(home, SearchSettings(read=10))
    found = index.rank(text, 40)
    assert {k for k, _ in found[:10]} == {k for k, _ in fused[:10]}
    assert [k for k, _ in found[10:]] == [k for k, _ in fused[10:]]
    overlap, parts = (
        WordOverlap(text, index._words),
        dict(PaperIndex.open(home, SearchSettings(read=0, words=0.27)).rank(text, 100)),
    )
    expected = {key: overlap(text_of(index._abstract(key)), parts[key]) for key, _ in fused[:10]}
    assert dict(found[:10]) == pytest.approx(expected)
    assert [s for _, s in found] == sorted((s for _, s in found), reverse=True)


@pytest.mark.parametrize(
    ("scores", "depth", "shares"),
    [([], 3, []), ([5.0], 3, [1.0]), ([5.0], 1, [0.0]), ([4.0, 3.0, 2.0], 3, [1, 0.5, 0]), ([0.5, -0.5], 3, [1, 0])],
)
def test_scores_are_scaled_over_their_ranking(scores, depth, shares):
    assert scaled(list(enumerate(scores)), depth) == pytest.approx(shares)


@pytest.mark.parametrize("mode", ["hybrid", "words", "vectors"])
@pytest.mark.parametrize(
    ("filters", "allowed"),
    [
        ({"types": ["review"]}, {"1"}),
        ({"since": 2020}, {"1", "2"}),
        ({"since": 2021, "retracted": False}, set()),
        ({"journals": ["THORAX"]}, {"1"}),
    ],
)
def test_filters_hold_on_both_sides(index, mode, filters, allowed):
    assert {h.pmid for h in index.search("asbestos", 50, mode, filters)} == allowed


def test_retraction_is_shown(index):
    assert {h.pmid: h.retracted for h in index.search("asbestos withdrawn", 50)}["2"] is True


@pytest.mark.parametrize("mode", ["hybrid", "words", "vectors"])
@pytest.mark.parametrize(
    "query",
    [
        "asbestos " * 1200,
        "A" * 10_000,
        'title:("asbestos" AND NOT [1 TO 2}) ^ ~ * ? \\ / + - !',
        "asbestos\x00\x1b[31m\x07\u202e\ud800",
        "Ist Asbest eine Ursache des Mesothelioms?",
        "石綿と中皮腫の関係",
        "هل يسبب الأسبستوس السرطان؟",
        "'; DROP TABLE papers; -- <script>",
        "💉🔬",
    ],
)
def test_any_query_is_safe(index, query, mode):
    hits = index.search(query, 3, mode)
    assert len(hits) <= 3
    assert mode == "words" or len(hits) == 3


@pytest.mark.parametrize("query", ["", "   ", "\x00\n\t", "\u200b\u202e"])
def test_an_empty_query_finds_nothing(index, query):
    assert index.search(query) == []


ANY_TEXT = st.one_of(
    st.text(st.characters(), max_size=200),  # of every script, control characters and lone surrogates among them
    st.text('"()[]{}*?~^:+-!&|\\\\/ANDORNTO\x00\x1b\u202e ', max_size=100),
    st.text("ж漢aé ", min_size=9000, max_size=10_000),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ANY_TEXT)
def test_words_take_any_text(index, query):
    assert len(index.search(query, 2, "words")) <= 2


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ANY_TEXT)
def test_both_take_any_text(index, query):
    hits = index.search(query, 2)
    assert len(hits) == (2 if clean_query(query) else 0)
    assert all(h.passage and "\x00" not in h.passage for h in hits)


@pytest.mark.parametrize(
    "wrong", [{"mode": "magic"}, {"k": 0}, {"k": 10**6}, {"filters": {"year": 3}}, {"filters": {"since": "x"}}]
)
def test_wrong_settings(index, wrong):
    with pytest.raises(BadSettings):
        index.search("asbestos", **wrong)


def test_a_reranker_has_the_last_word(index):
    def shortest(query, candidates):
        return [-len(c.abstract) for c in candidates]

    hits = index.search("asbestos", 3, rerank=shortest)
    assert [len(h.passage) for h in hits] == sorted(len(h.passage) for h in hits)
    assert hits[0].pmid in {"2", "3"}


def test_threads_share_one_index(home):
    fresh, results = PaperIndex.open(home), []
    threads = [
        threading.Thread(target=lambda: results.append([h.pmid for h in fresh.search("lupus kidney", 5)])) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert all(r == results[0] for r in results)


def test_words_serve_where_the_embedder_is_missing(home, monkeypatch, tmp_path):
    monkeypatch.setenv("PATHASST_CACHE", str(tmp_path))
    alone = PaperIndex.open(home)
    assert alone.search("asbestos", 3) == alone.search("asbestos", 3, "words") != []
    with pytest.raises(MissingWeights):
        alone.search("asbestos", 3, "vectors")


def test_other_weights_are_not_mixed_with_the_index(home, monkeypatch):
    alone = PaperIndex.open(home)
    monkeypatch.setattr(weights, "version", lambda id: "minilm@other")
    with pytest.raises(MissingWeights, match="anew"):
        alone.search("asbestos", mode="vectors")


def test_settings_of_a_search(home):
    only_words = PaperIndex.open(home, SearchSettings(words=1.0, read=0))
    assert [h.pmid for h in only_words.search("asbestos", 3)] == [h.pmid for h in only_words.search("asbestos", 3, "words")]


def test_an_unknown_fusion_is_told():
    with pytest.raises(BadSettings, match="'scores' or 'ranks'"):
        SearchSettings(fusion="magic")


def test_nothing_there(tmp_path, monkeypatch):
    monkeypatch.setenv("PATHASST_CACHE", str(tmp_path))
    assert default_home() == tmp_path / "papers" / "embedded"
    with pytest.raises(BadDataset, match="pathasst papers build"):
        PaperIndex.open()


def test_info(index):
    found = index.info()
    assert (found["abstracts"], found["vectors"], found["segments"], found["sources"]) == (67, 67, 1, ["a.xml"])
    assert index.describe() == "67 abstracts, 67 vectors of minilm"
    assert index.get("1").title == "Reviewed asbestos."
    assert Filters.of(None).empty


@pytest.mark.parametrize(("query", "clean"), [("a\x00b\tc\n", "a b c"), ("ﬁbrosis²", "fibrosis2"), ("x" * 9999, "x" * 4000)])
def test_clean_queries(query, clean):
    assert clean_query(query) == clean
