import re
from pathlib import Path

import numpy as np
import pytest

from pathasst.core.errors import BadDataset, BadSettings
from pathasst.papers import clusters as module
from pathasst.papers.clusters import Clusters, ClusterSettings, build_clusters
from pathasst.papers.embed import from_bytes, to_bytes

DIM = 48


def unit(array):
    return (array / np.linalg.norm(array, axis=-1, keepdims=True)).astype(np.float32)


def blobs(n, seed=0):
    """Vectors in loose groups, as abstracts of topics are."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(40, DIM))
    return unit(centres[rng.integers(0, 40, n)] + 0.8 * rng.normal(size=(n, DIM)))


@pytest.fixture(scope="module", params=["pq", "rabitq"])
def big(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clusters")
    codes = to_bytes(blobs(12_000))
    order = build_clusters(codes, folder, ClusterSettings(code=request.param))
    return codes, order, Clusters(folder)


def exact(codes, query, k, allowed=None):
    cosines = from_bytes(codes) @ query
    if allowed is not None:
        cosines = np.where(allowed, cosines, -2)
    return np.argsort(-cosines, kind="stable")[:k]


def test_rows_are_a_permutation_in_cluster_order(big):
    codes, order, opened = big
    assert sorted(order.tolist()) == list(range(len(codes)))
    assert (opened.codes == codes[order]).all()
    assert opened.lists == round(12_000**0.5)
    near = np.mean(np.sum(from_bytes(opened.codes[:-1]) * from_bytes(opened.codes[1:]), axis=1))
    assert near > 0.3 + np.mean(np.sum(from_bytes(codes[:-1]) * from_bytes(codes[1:]), axis=1))


def test_recall_against_exact_search(big):
    _, _, opened = big
    queries = unit(from_bytes(opened.codes[::120]) + 0.05 * np.random.default_rng(1).normal(size=(100, DIM)))
    found = [opened.search(q, 10, probes=64)[0] for q in queries]
    truth = [exact(opened.codes, q, 10) for q in queries]
    recall = np.mean([len(set(f) & set(t)) / 10 for f, t in zip(found, truth, strict=True)])
    assert recall > 0.9
    everything = [opened.search(q, 10, probes=10_000, refine=2000)[0].tolist() for q in queries[:20]]
    assert everything == [t.tolist() for t in truth[:20]]


def test_cosines_are_those_of_the_kept_vectors_in_falling_order(big):
    _, _, opened = big
    query = from_bytes(opened.codes[5:6])[0]
    rows, cosines = opened.search(query, 7)
    assert rows[0] == 5
    np.testing.assert_allclose(cosines, from_bytes(opened.codes[rows]) @ query, atol=1e-6)
    assert (np.diff(cosines) <= 0).all()


def pages_in_memory(path):
    """Kilobytes of a mapped file that count as this process's."""
    entries = Path("/proc/self/smaps").read_text().split(str(path))[1:]
    return sum(int(re.search(r"^Rss: +(\d+)", entry, re.M)[1]) for entry in entries)


@pytest.mark.skipif(not Path("/proc/self/smaps").is_file(), reason="Linux alone tells how much of a file is mapped")
def test_rows_that_were_read_do_not_stay_in_this_process(tmp_path, monkeypatch):
    build_clusters(to_bytes(blobs(20_000)), tmp_path)
    query, before = blobs(1, seed=4)[0], []
    opened = Clusters(tmp_path)
    for limit in (10**9, 1):
        monkeypatch.setattr(module, "MAPPED", limit)
        rows, _ = opened.search(query, 10, refine=2000)
        before.append((rows.tolist(), pages_in_memory(tmp_path / "codes.npy")))
    (kept, many), (released, few) = before
    assert kept == released
    assert few < many / 4


@pytest.mark.parametrize("share", [0.001, 0.5])
@pytest.mark.parametrize("limit", [0, 20_000])
def test_only_allowed_rows_are_found(big, monkeypatch, share, limit):
    monkeypatch.setattr(module, "EXACT_ALLOWED", limit)
    _, _, opened = big
    allowed = np.random.default_rng(2).random(len(opened)) < share
    query = blobs(1, seed=9)[0]
    rows, _ = opened.search(query, 10, allowed=allowed, probes=10_000, refine=4000)
    assert allowed[rows].all()
    assert rows.tolist() == exact(opened.codes, query, 10, allowed)[: len(rows)].tolist()
    assert len(rows) == min(10, allowed.sum())


def test_few_vectors_are_compared_one_by_one(tmp_path):
    codes = to_bytes(blobs(500))
    assert build_clusters(codes, tmp_path).tolist() == list(range(500))
    opened = Clusters(tmp_path)
    assert opened.lists == 0
    query = blobs(1, seed=3)[0]
    assert opened.search(query, 600)[0].tolist() == exact(codes, query, 600).tolist()


def test_the_same_input_gives_the_same_files(tmp_path):
    codes = to_bytes(blobs(5000))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        build_clusters(codes, tmp_path / name)
    for file in ("codes.npy", "clusters.faiss"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_damage_is_told(tmp_path):
    build_clusters(to_bytes(blobs(5000)), tmp_path)
    whole = (tmp_path / "clusters.faiss").read_bytes()
    (tmp_path / "clusters.faiss").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadDataset, match="build"):
        Clusters(tmp_path)


@pytest.mark.parametrize("wrong", [{"lists": -1}, {"sample": 0}, {"rounds": 0}, {"code": "PQ8"}])
def test_wrong_settings(wrong):
    with pytest.raises(BadSettings):
        ClusterSettings(**wrong)
