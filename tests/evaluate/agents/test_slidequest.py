"""SlideQuest's layout and tolerances: numbers, text, rows by their id; what is missing counts 0, what is broken is named."""

import json

import pytest

from pathasst.core.errors import BadDataset
from pathasst.evaluate.agents.slidequest import SlideQuestion, evaluate, read_questions, score


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


QUESTION = SlideQuestion(
    id="1",
    part="cellular_qa",
    question="?",
    id_column="slide_id",
    columns={"area": 0.15, "stain": 0.001},
    truth=[{"slide_id": "a", "area": 100.0, "stain": "H&E"}, {"slide_id": "b", "area": 0.0, "stain": ["IHC", "DAB"]}],
)


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ([{"slide_id": "b", "area": 0, "stain": "dab."}, {"slide_id": "a", "area": "114", "stain": "h&e "}], 1.0),
        ([{"slide_id": "a", "area": 116, "stain": "H&E"}], 0.25),
        ([{"slide_id": "c", "area": 100, "stain": "H&E"}], 0.0),
        ([{"slide_id": "a", "surface": 100, "stain": "HE"}, {"slide_id": "b", "area": 0.01, "stain": "IHC"}], 0.25),
        ([{"slide_id": "a", "area": "much"}], 0.0),
        ([], 0.0),
    ],
)
def test_cells_within_their_tolerance(answer, value):
    assert score(QUESTION, answer) == value


def test_without_an_id_rows_stand_in_order_and_bounds_of_negative_numbers_hold():
    question = SlideQuestion(id="1", part="x", question="?", id_column="", columns={"n": 0.1}, truth=[{"n": -10}, {"n": 4}])
    assert score(question, [{"n": -10.5}, {"n": 5}]) == 0.5


@pytest.fixture
def benchmark(tmp_path):
    node = {"id": "1", "question": "How large?", "id_column": None, "columns_to_compare_and_tolerance": {"n": 0.15}}
    put(tmp_path / "benchmark/data_qa/questions.json", [node, {**node, "id": "2"}])
    put(tmp_path / "benchmark/slide_qa/questions.json", [{**node, "columns_to_compare_and_tolerance": {"n": None}}])
    for part, id in (("data_qa", 1), ("data_qa", 2), ("slide_qa", 1)):
        put(tmp_path / f"benchmark/{part}/ground_truth/question_{id}/answer.json", [{"n": 100}])
    return tmp_path / "benchmark"


def test_files_of_an_agent(benchmark, tmp_path):
    put(tmp_path / "out/data_qa/question_1/answer.json", {"n": 110})
    put(tmp_path / "out/slide_qa/question_1/answer.json", [{"n": 101}])
    table, scores = evaluate("agent", benchmark, tmp_path / "out")
    rows = {row[0]: row for row in table.rows}
    assert rows["all"][1:3] == [3, 2] and rows["all"][3].value == pytest.approx(1 / 3)
    assert rows["data_qa"][3].value == 0.5 and rows["slide_qa"][3].value == 0.0  # the default tolerance is a thousandth
    assert len(scores) == 3
    (tmp_path / "out/data_qa/question_2").mkdir()
    (tmp_path / "out/data_qa/question_2/answer.json").write_text("[half")
    assert any("question_2" in note for note in evaluate("agent", benchmark, tmp_path / "out")[0].notes)


def test_another_layout_is_explained(benchmark, tmp_path):
    with pytest.raises(BadDataset, match=r"has no SlideQuest: expected .*nova-agent"):
        read_questions(tmp_path / "elsewhere")
    put(benchmark / "data_qa/questions.json", [{"id": "1"}])
    with pytest.raises(BadDataset, match="expected id, question, columns_to_compare_and_tolerance"):
        read_questions(benchmark)
