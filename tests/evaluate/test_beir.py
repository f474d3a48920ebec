"""BEIR's layout: a small collection ranked by ours and by bm25s, scored as trec_eval does; wrong layouts are explained."""

import json

import pytest

from pathasst.core.errors import BadDataset
from pathasst.evaluate.beir import KS, evaluate, ndcg, read_collection, recall

TEXTS = {
    "MED-1": ("Melanoma", "Melanoma of the skin metastasises early to lymph nodes."),
    "MED-2": ("", "Gliomas are tumours of the brain and rarely metastasise."),
    "3": ("Celiac disease", "Gluten flattens the villi of the small bowel."),
    "4": ("Naevi", "A naevus of the skin is benign."),
}
QUERIES = {"q1": "melanoma of the skin", "q2": "villi and gluten", "q3": "nobody judged this"}
QRELS = [("q1", "MED-1", 2), ("q1", "4", 1), ("q2", "3", 1), ("q2", "MED-2", 0)]


@pytest.fixture
def collection(tmp_path):
    folder = tmp_path / "tiny"
    (folder / "qrels").mkdir(parents=True)
    rows = [{"_id": i, "title": t, "text": x} for i, (t, x) in TEXTS.items()]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "queries.jsonl").write_text("\n".join(json.dumps({"_id": i, "text": t}) for i, t in QUERIES.items()))
    lines = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, row)) for row in QRELS)]
    (folder / "qrels/test.tsv").write_text("\n".join(lines))
    return folder


def test_both_searches_find_what_is_judged_and_a_rerun_is_the_same(collection, tmp_path):
    pytest.importorskip("bm25s")
    table, scores = evaluate([collection], tmp_path / "out", vectors=False)
    rows = {row[1]: row for row in table.rows}
    assert set(rows) == {"bm25s", "words"}
    for row in rows.values():
        assert row[:4] == ["tiny", row[1], 2, 4]  # the question without a judgement is left out
        assert row[4].value > 0.9 and row[5 + KS.index(10)].value == 1.0
    assert {s.metric for s in scores} == {"nDCG@10", *(f"R@{k}" for k in KS)}
    again, _ = evaluate([collection], tmp_path / "out", vectors=False)
    assert again.rows == table.rows
    assert {i["model"] for i in table.items} == {"bm25s", "words"}


def test_ndcg_and_recall_by_hand():
    judged = {"a": 2, "b": 1, "c": 0}
    assert ndcg(["a", "b", "x"], judged) == pytest.approx(1.0)
    assert ndcg(["b", "a"], judged) == pytest.approx((1 + 2 / 1.5849625) / (2 + 1 / 1.5849625))
    assert ndcg(["x"] * 10 + ["a"], judged) == 0.0
    assert recall(["x", "b"], judged, 2) == 0.5 and recall(["x", "b"], judged, 1) == 0.0


def test_ndcg_equals_pytrec_evals():
    trec = pytest.importorskip("pytrec_eval")
    judged = {"q": {"a": 3, "b": 1, "c": 2, "d": 0}}
    ranked = ["d", "c", "x", "a", "b"]
    run = {"q": {id: float(10 - n) for n, id in enumerate(ranked)}}
    theirs = trec.RelevanceEvaluator(judged, {"ndcg_cut.10", "recall.3"}).evaluate(run)["q"]
    assert ndcg(ranked, judged["q"]) == pytest.approx(theirs["ndcg_cut_10"])
    assert recall(ranked, judged["q"], 3) == pytest.approx(theirs["recall_3"])


@pytest.mark.parametrize(
    ("file", "content", "why"),
    [
        ("corpus.jsonl", None, "has no corpus.jsonl. Expected: .*it holds qrels/, queries.jsonl"),
        ("corpus.jsonl", '{"id": 1}', "line 1: expected _id and text"),
        ("qrels/test.tsv", "query-id\tcorpus-id\nq1\t3\n", "expected the columns query-id, corpus-id, score"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\nq1\t3\t0\n", "none of the 3 questions has a judged text"),
    ],
)
def test_another_layout_is_explained(collection, file, content, why):
    path = collection / file
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(BadDataset, match=why):
        read_collection(collection)
