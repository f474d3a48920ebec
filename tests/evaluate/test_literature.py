"""Paper retrieval (R@k, MRR) on a small index whose right answers are known, asked once."""

import json

import pytest

from pathasst.core.errors import BadDataset
from pathasst.evaluate import literature
from pathasst.evaluate.suite import EvalSettings, run
from pathasst.papers import PaperIndex
from pathasst.papers.build import BuildSettings, build
from pathasst.papers.documents import key_of_id

ABSTRACTS = {
    "1": "Melanoma of the skin metastasises early.",
    "2": "Gliomas are tumours of the brain.",
    "3": "Celiac disease flattens the villi.",
}
QUESTIONS = {"1": {"question": "melanoma skin"}, "2": {"question": "celiac villi"}, "99": {"QUESTION": "asbestos pleura"}}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("literature")
    rows = [{"pmid": pmid, "title": "", "abstract": text} for pmid, text in ABSTRACTS.items()]
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    build(
        [folder / "a.jsonl"],
        folder / "index",
        BuildSettings(workers=1, make_vectors=False, vectors_home=folder / "none"),
        say=lambda text: None,
    )
    return folder / "index"


@pytest.fixture
def data(tmp_path):
    (tmp_path / "questions").mkdir()
    (tmp_path / "questions/ori_pqal.json").write_text(json.dumps(QUESTIONS))
    return tmp_path


def test_ranks_become_recall_and_reciprocal_rank(home, data, tmp_path):
    (table,), refused = run(["papers"], EvalSettings(index=home, data=data, out=tmp_path / "out"))
    assert not refused
    (row,) = table.rows  # the index has no vectors
    words = dict(zip(table.columns, row, strict=True))
    assert (words["search"], words["questions"]) == ("words", 3)
    assert words["R@1"].value == pytest.approx(1 / 3) and words["MRR"].value == pytest.approx(1 / 3)
    items = {i["id"]: (i["said"], i["score"]) for i in table.items if i["model"] == "words"}
    absent = ("not among the first 100", 0.0)
    assert items == {"1": ("place 1", 1.0), "2": absent, "99": absent}
    assert [i["asked"] for i in table.items] == ["melanoma skin", "celiac villi", "asbestos pleura"]
    assert "1 questions cannot be answered: the index lacks their abstract (PMID 99 …)." in table.notes


def test_an_index_without_any_of_the_abstracts_is_no_index_to_measure_on(home, tmp_path):
    with pytest.raises(BadDataset, match="index holds none of the abstracts that answer the questions"):
        literature.evaluate(PaperIndex.open(home), {"98": "asbestos", "99": "pleura"}, tmp_path)


def test_the_place_counts_from_one_and_a_rerun_searches_nothing(home, tmp_path, monkeypatch):
    index = PaperIndex.open(home)
    asked = []

    def rank(text, k, mode="hybrid", filters=None):
        asked.append((text, mode))
        return [(key_of_id(pmid), 1.0) for pmid in ("3", "1", "2")]

    monkeypatch.setattr(index, "rank", rank)
    questions = {"1": "second", "2": "third", "3": "first"}
    first = literature.evaluate(index, questions, tmp_path)
    row = dict(zip(first.columns, first.rows[0], strict=True))
    assert (row["R@1"].value, row["R@5"].value) == (pytest.approx(1 / 3), 1.0)
    assert row["MRR"].value == pytest.approx((1 / 2 + 1 / 3 + 1) / 3)
    asked.clear()
    assert literature.evaluate(index, questions, tmp_path).rows == first.rows and asked == []
    literature.evaluate(index, {**questions, "4": "a new one"}, tmp_path)
    assert {text for text, _ in asked} == {"a new one"}


@pytest.mark.parametrize("content", ["[1]", '{"1": {"ask": "x"}}', "no json"])
def test_questions_of_another_form_are_explained(tmp_path, content):
    (tmp_path / "questions").mkdir()
    (tmp_path / "questions/questions.json").write_text(content)
    with pytest.raises(BadDataset, match="expected questions/"):
        literature.questions(tmp_path)
