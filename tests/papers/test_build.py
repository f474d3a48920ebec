"""Building, adding, deleting, compacting: with words alone (no weights are needed), and with real vectors."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from paper_samples import corpus, record

from pathasst.errors import BadDataset, BadSettings
from pathasst.papers import BuildSettings, PaperIndex, add, build, compact, delete, versions
from pathasst.papers import vectors as store_module
from pathasst.papers.clusters import ClusterSettings
from pathasst.recipes import load_recipe

QUIET = {"say": lambda text: None}


@pytest.fixture
def words_only(monkeypatch, tmp_path):
    """As on a machine without any weights."""
    monkeypatch.setenv("PATHASST_CACHE", str(tmp_path / "cache"))
    return BuildSettings(workers=1)


@pytest.fixture
def own_vectors(minilm, tmp_path):
    """Vectors are made anew and kept in the test's own folder."""
    return BuildSettings(workers=1, vectors_home=tmp_path / "vectors")


def pmids(index, query, **options):
    return [h.pmid for h in index.search(query, k=20, **options)]


def test_build_search_and_replace(medline, tmp_path, words_only):
    said = []
    build([medline("a.xml", *corpus(40), record(9, abstract=""))], tmp_path / "i", words_only, said.append)
    index = PaperIndex.open(tmp_path / "i")
    assert len(index) == 40
    assert any("pathasst models pull minilm" in line for line in said)
    assert pmids(index, "asbestos mesothelioma") == [str(1001 + 8 * i) for i in range(5)]
    build([medline("b.xml", record(1, abstract="Only asbestos."))], tmp_path / "i", words_only, **QUIET)
    assert pmids(PaperIndex.open(tmp_path / "i"), "asbestos") == ["1"]
    assert len(pmids(index, "asbestos mesothelioma")) == 5  # an open index stays what it was


def test_add_revises_deletes_and_appends(medline, tmp_path, words_only):
    home = tmp_path / "i"
    build([medline("a.xml", *corpus(30))], home, words_only, **QUIET)
    update = medline("b.xml", record(1001, abstract="Now about zebras."), record(5, abstract="Zebras too."), deleted=(1009,))
    version = add([update], home, words_only, **QUIET)
    index = PaperIndex.open(home)
    assert (len(index), version.number, len(version.segments)) == (30, 2, 2)
    assert sorted(pmids(index, "zebras")) == ["1001", "5"]
    assert pmids(index, "asbestos") == ["1017", "1025"]
    assert index.get("1001").abstract == "Now about zebras."
    assert index.get("1009") is None
    assert versions.verify(home) == []


def test_delete_and_compact(medline, tmp_path, words_only):
    home, said = tmp_path / "i", []
    build([medline("a.xml", *corpus(20))], home, words_only, **QUIET)
    add([medline("b.xml", *corpus(20, first=2000))], home, words_only, **QUIET)
    delete(["1001", "2001", "77"], home, said.append)
    before = PaperIndex.open(home)
    assert said == ["not in the index: 77"]
    assert len(before) == 38
    found = pmids(before, "asbestos")
    assert sorted(found) == ["1009", "1017", "2009", "2017"]
    compact(home, words_only)
    after = PaperIndex.open(home)
    assert (len(after), len(after.version.segments)) == (38, 1)
    assert pmids(after, "asbestos") == found
    delete([str(n) for n in [*range(1000, 1020), *range(2000, 2020)]], home, **QUIET)
    assert len(PaperIndex.open(home)) == 0
    assert pmids(PaperIndex.open(home), "asbestos") == []


def test_vectors_are_made_once_and_words_serve_meanwhile(medline, tmp_path, own_vectors, monkeypatch):
    home, seen, made = tmp_path / "i", [], []
    embed = store_module._Embed.__call__

    def watch(self, unit):
        index = PaperIndex.open(home)
        seen.append((index.version.vectors, len(pmids(index, "asbestos"))))
        made.extend(self.rows[unit.key])
        return embed(self, unit)

    monkeypatch.setattr(store_module._Embed, "__call__", watch)
    file = medline("a.xml", *corpus(24))
    build([file], home, own_vectors, **QUIET)
    assert seen == [(0, 3)]
    assert len(made) == 24
    assert PaperIndex.open(home).version.vectors == 24
    build([file], home, own_vectors, **QUIET)
    add([medline("b.xml", *corpus(2), record(3, abstract="New text."))], home, own_vectors, **QUIET)
    assert len(made) == 25  # only what was new
    index = PaperIndex.open(home)
    assert (len(index), index.version.vectors) == (25, 27)
    assert pmids(index, "cancer of the lung lining caused by asbestos dust", mode="vectors")[0] in {"1001", "1009", "1017"}


def test_compacting_keeps_every_vector(medline, tmp_path, own_vectors):
    home = tmp_path / "i"
    build([medline("a.xml", *corpus(10))], home, own_vectors, **QUIET)
    without = BuildSettings(workers=1, vectors_home=own_vectors.vectors_home, make_vectors=False)
    add([medline("b.xml", *corpus(3, first=2000), record(1000, abstract="Other."))], home, without, **QUIET)
    query = "mitosis counting by a neural network"
    before = [(h.pmid, h.score) for h in PaperIndex.open(home).search(query, 20, "vectors")]
    version = compact(home, own_vectors)
    assert (version.abstracts, version.vectors) == (13, 9)
    after = [(h.pmid, h.score) for h in PaperIndex.open(home).search(query, 20, "vectors")]
    assert [p for p, _ in before] == [p for p, _ in after]
    np.testing.assert_allclose([s for _, s in before], [s for _, s in after], atol=1e-5)


def test_another_embedder_is_refused(medline, tmp_path, words_only):
    build([medline("a.xml", record(1))], tmp_path / "i", words_only, **QUIET)
    with pytest.raises(BadSettings, match="anew"):
        add([medline("b.xml", record(2))], tmp_path / "i", BuildSettings(embedder="medcpt"), **QUIET)


def test_adding_to_nothing_is_told(medline, tmp_path, words_only):
    with pytest.raises(BadDataset, match="pathasst papers build"):
        add([medline("b.xml", record(2))], tmp_path / "i", words_only, **QUIET)


@pytest.mark.parametrize("wrong", [{"embedder": "word2vec"}, {"workers": 0}])
def test_wrong_settings(wrong):
    with pytest.raises(BadSettings):
        BuildSettings(**wrong)


KILLED = """
import sys
from pathlib import Path
from pathasst.papers import BuildSettings, add
print("go", flush=True)
while True:
    add([sys.argv[1]], Path(sys.argv[2]), BuildSettings(workers=1), lambda text: None)
"""


def test_a_kill_at_any_time_leaves_a_good_index(medline, tmp_path, words_only):
    """A process adds without end and is killed at ten different moments; each time the index opens, verifies and answers."""
    home = tmp_path / "i"
    build([medline("a.xml", *corpus(300))], home, words_only, **QUIET)
    update = medline("b.xml", *corpus(200, first=1100))
    for moment in range(10):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(update), str(home)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ,
        )
        process.stdout.readline()
        time.sleep(0.07 * moment)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        index = PaperIndex.open(home)
        assert versions.verify(home) == []
        assert len(index) == 300
        assert len(pmids(index, "asbestos")) == 20
    add([update], home, words_only, **QUIET)
    assert not list((home / "segments").glob(".*"))
    assert len(PaperIndex.open(home)) == 300


@pytest.mark.parametrize(("recipe", "embedder"), [("embedded", "minilm"), ("paper", "pubmedbert")])
def test_the_recipes(recipe, embedder):
    settings = load_recipe("papers", recipe, BuildSettings)
    assert settings.embedder == embedder
    assert isinstance(settings.clusters, ClusterSettings)
