import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from paper_samples import corpus, document, record, write

from pathasst.papers import BuildSettings, PaperIndex, build
from pathasst.papers.serve import MAX_BODY, create_app


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """Words alone: no weights are needed."""
    folder = tmp_path_factory.mktemp("papers")
    gone = record(7, title="Withdrawn zebra.", abstract="Zebra.", types=("Retracted Publication",), year="2020")
    file = write(folder / "a.xml", document(*corpus(16), gone))
    build([file], folder / "index", BuildSettings(workers=1, make_vectors=False), say=lambda text: None)
    with TestClient(create_app(PaperIndex.open(folder / "index")), raise_server_exceptions=False) as opened:
        yield opened


def ask(client, **body):
    return client.post("/v1/papers/search", json=body)


def test_search_gives_what_the_index_gives(client):
    answer = ask(client, query="asbestos pleura", k=2).json()
    assert [hit["pmid"] for hit in answer["data"]] == ["1001", "1009"]
    assert answer["data"][0]["highlights"][0] in answer["data"][0]["passage"]
    assert ask(client, query="zebra").json()["data"][0]["retracted"] is True
    assert ask(client, query="zebra", retracted=False).json()["data"] == []
    assert ask(client, query="zebra", until=1990).json()["data"] == []
    assert ask(client, query="").json()["data"] == []


@pytest.mark.parametrize("mode", ["hybrid", "words"])
@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("((((", "No abstract here is about this."),
        ("asdfgh qwerty", "No abstract here is about this: none names asdfgh, qwerty."),
        ("x" * 500, "No abstract here is about this"),
        ("homeopathy for asbestos", "No abstract here is about this: none names homeopathy."),
        ("PMID 31452104", "PMID 31452104 is not in this collection."),
    ],
)
def test_nonsense_absent_topics_and_absent_pmids_are_said_to_be_absent(client, query, message, mode):
    answer = ask(client, query=query, mode=mode).json()
    assert answer["data"] == []
    assert answer["message"].startswith(message)


def test_a_pmid_is_looked_up_and_what_is_about_the_query_needs_no_message(client):
    answer = ask(client, query="PMID 1001 and PMID 3").json()
    assert [hit["pmid"] for hit in answer["data"]] == ["1001"]
    assert answer["message"] == "PMID 3 is not in this collection."
    assert ask(client, query="asbestos").json()["message"] == ""


def test_one_abstract_and_what_is_served(client):
    assert client.get("/v1/papers/7").json()["title"] == "Withdrawn zebra."
    assert client.get("/v1/papers/8").status_code == 404
    assert client.get("/health").json()["abstracts"] == 17


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"query": 3},
        {"query": "x", "k": 0},
        {"query": "x", "mode": "magic"},
        {"query": "x", "year": 1},
        {"query": "x" * 20_001},
    ],
)
def test_wrong_requests_are_told(client, body):
    assert ask(client, **body).status_code == 422


def test_large_bodies_and_foreign_hosts_are_refused(client):
    assert client.post("/v1/papers/search", content=b" " * (MAX_BODY + 1)).status_code == 413
    assert client.post("/v1/papers/search", content=iter([b" " * 100_000] * 4)).status_code == 413
    assert client.get("/health", headers={"Host": "evil.example"}).status_code == 400


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        st.text(max_size=300),
        st.text('"()[]{}*?~^:+-\\/ANDORNT\x00\x1b\u202e ', max_size=100),
        st.text("ж漢a", min_size=9000, max_size=10_000),
    )
)
def test_any_text_is_a_query(client, query):
    assert ask(client, query=query, k=3).status_code == 200
