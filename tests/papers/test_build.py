"""Building, adding, deleting, compacting: with words alone (no weights are needed), and with real vectors."""

import multiprocessing
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from paper_samples import corpus, record, write_without_end

from pathasst.core.errors import BadDataset, BadSettings
from pathasst.papers import BuildSettings, PaperIndex, add, build, compact, delete, versions
from pathasst.papers import vectors as store_module
from pathasst.papers.clusters import ClusterSettings
from pathasst.papers.embed import key_of

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


def test_a_text_of_the_same_length_gets_a_vector_of_its_own(medline, tmp_path, own_vectors):
    for name, text in (("a", "Asbestos fibres."), ("b", "Kidney failures.")):
        build([medline("a.xml", record(1, abstract=text))], tmp_path / name, own_vectors, **QUIET)
        assert PaperIndex.open(tmp_path / name).version.vectors == 1
    kept = store_module.VectorStore("minilm", home=own_vectors.vectors_home)
    known, codes = kept.find(np.array([key_of("A title.\nKidney failures."), 5, key_of("A title.\nAsbestos fibres.")], np.int64))
    assert known.tolist() == [True, False, True]
    assert codes.shape == (2, 384)
    assert (codes[0] != codes[1]).any()


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


@pytest.mark.parametrize("acts", [("add",), ("build",), ("add", "compact")])
def test_a_kill_at_any_time_leaves_a_good_index(medline, tmp_path, words_only, acts):
    """A process writes without end and is killed at moments spread over one turn; the index always opens, verifies, answers."""
    home = tmp_path / "i"
    files = [medline("a.xml", *corpus(300)), medline("b.xml", *corpus(200, first=1100))]
    build(files[:1], home, words_only, **QUIET)
    processes = multiprocessing.get_context("forkserver")  # has the libraries once, and gives each process a copy
    processes.set_forkserver_preload(["pathasst.papers.build"])
    turn = 0.0  # seconds
    for moment in range(6, -1, -1):
        turns, end = processes.Pipe(duplex=False)
        process = processes.Process(target=write_without_end, args=(files, home, acts, end))
        process.start()
        end.close()
        turns.recv()
        started = time.perf_counter()
        if not turn:
            turns.recv()
            turn = time.perf_counter() - started
        time.sleep(turn * moment / 6)
        process.kill()
        process.join()
        assert process.exitcode == -9, "it was killed at work"
        index = PaperIndex.open(home)
        assert versions.verify(home) == []
        assert len(index) == 300
        assert len(pmids(index, "asbestos")) == 20
    assert index.version.number > 1
    add(files[1:], home, words_only, **QUIET)
    assert not list((home / "segments").glob(".*"))
    assert len(PaperIndex.open(home)) == 300


ON_RAY = """
import sys
import ray
from pathlib import Path
from pathasst.papers import BuildSettings, build
ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100_000_000)
out = Path(sys.argv[2])
build([sys.argv[1]], out / "i", BuildSettings(workers=2, runner="ray", vectors_home=out / "vectors"), lambda text: None)
"""


def test_ray_makes_the_same_index(medline, tmp_path, minilm):
    pytest.importorskip("ray")
    file = medline("a.xml", *corpus(12))
    for name in ("native", "ray"):
        (tmp_path / name).mkdir()
    polite = {**os.environ, "RAY_worker_niceness": "0"}  # Ray's own 15 starves where other programs run
    subprocess.run([sys.executable, "-c", ON_RAY, str(file), str(tmp_path / "ray")], check=True, timeout=600, env=polite)
    native = BuildSettings(workers=1, vectors_home=tmp_path / "native" / "vectors")
    build([file], tmp_path / "native" / "i", native, **QUIET)
    opened = [PaperIndex.open(tmp_path / name / "i") for name in ("native", "ray")]
    assert [i.version.vectors for i in opened] == [12, 12]
    hits = [[(h.pmid, h.score) for h in i.search("asbestos dust in the lung", 12, "vectors")] for i in opened]
    assert [p for p, _ in hits[0]] == [p for p, _ in hits[1]]
    np.testing.assert_allclose([s for _, s in hits[0]], [s for _, s in hits[1]], atol=1e-4)


@pytest.mark.parametrize(("recipe", "embedder"), [("embedded", "minilm"), ("paper", "pubmedbert")])
def test_the_recipes(recipe, embedder):
    settings = BuildSettings.load(recipe)
    assert settings.embedder == embedder
    assert isinstance(settings.clusters, ClusterSettings)
