import numpy as np
import pytest

from pathasst import papers
from pathasst.core import weights
from pathasst.papers import default
from pathasst.papers.embed import Embedder, from_bytes, join_text, key_of, version_of
from pathasst.papers.vectors import VectorStore, read_shipped


@pytest.fixture(scope="module")
def built(minilm, sample, tmp_path_factory):
    """The embedded collection, made as a newcomer makes it, but in a folder of its own and without making any vector."""
    home = tmp_path_factory.mktemp("embedded")
    said = []
    settings = papers.BuildSettings(vectors_home=home / "vectors", make_vectors=False)
    return papers.build_default(home=home, settings=settings, say=said.append), said


def test_nearly_every_abstract_of_the_sample_has_a_shipped_vector(built):
    index, _ = built
    # 46 texts hold signs of their own beside markup's super- and subscripts, 8 hold HTML as letters: they are embedded anew.
    assert (len(index), index.version.vectors) == (33_272, 33_218)


def test_the_collection_answers(built):
    index, _ = built
    hits = index.search("Is Ki-67 related to the prognosis of breast cancer?", 5)
    assert all("Ki" in h.title + h.passage for h in hits[:1])
    assert len({h.pmid for h in hits}) == 5
    old = index.search("kidney disease in dogs", 5, filters={"until": 1985})
    assert len(old) == 5
    assert all(h.year <= 1985 for h in old)


def test_shipped_vectors_are_those_of_the_model(minilm, sample, built):
    index, _ = built
    keys, codes = read_shipped(version_of("minilm"))
    assert codes.shape == (33_272, 384)
    texts = [join_text(a.title, a.abstract) for a in (index.get("399296"), index.get("10704411"))]
    place = [int(np.flatnonzero(keys == key_of(t))[0]) for t in texts]
    made = Embedder("minilm", dtype="float32").documents(texts)
    assert np.sum(made * from_bytes(codes[place]), axis=1).min() > 0.999


def test_vectors_of_another_embedder_are_not_used(minilm, tmp_path, monkeypatch):
    assert read_shipped("minilm@other/mean256") is None
    assert len(VectorStore("minilm", home=tmp_path)) > 33_000
    monkeypatch.setattr("pathasst.papers.vectors.version_of", lambda spec: "other")
    assert len(VectorStore("minilm", home=tmp_path)) == 0


def test_nothing_is_fetched_unless_asked(monkeypatch, tmp_path):
    monkeypatch.setenv("PATHASST_CACHE", str(tmp_path))
    monkeypatch.setattr(weights, "pull", lambda id: pytest.fail("the network was used"))
    assert not papers.ready()
    with pytest.raises(weights.MissingWeights, match="pathasst models pull medline-sample"):
        papers.build_default()
    assert default.COLLECTION in weights.registry()
