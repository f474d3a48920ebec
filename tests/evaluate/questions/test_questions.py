"""Public layouts of questions from small copies, wrong ones explained; a brain's scores, blind baselines and orders."""

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from evaluate_brains import RuleBrain

from pathasst.core.errors import BadDataset
from pathasst.evaluate.asking import blank_picture
from pathasst.evaluate.questions.item import QuestionItem
from pathasst.evaluate.questions.measure import COLUMNS, QuestionSettings, draw, evaluate, items_of
from pathasst.evaluate.questions.readers import READERS, jsonl, with_pictures
from pathasst.evaluate.sets import public_sets


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content) if isinstance(content, bytes) else path.write_text(json.dumps(content))


def pathmmu(root, png):
    row = {"No": 1, "img": "a.png", "question": "What is it?", "options": ["A) fat", "B) bone"], "answer": "B) bone"}
    atlas = {"source_img": "books_set/images/7.png", "question": "And this?", "options": ["A) x", "B) y"], "answer": "A) x"}
    tiny = {"test": [row, {**row, "No": 2, "img": "lost.png"}], "test_tiny": [row]}
    put(root / "PathMMU/data.json", {"PubMed": tiny, "Atlas": {"test": [atlas], "val": []}})
    put(root / "PathMMU/images/a.png", png)
    put(root / "PathMMU/arch/books_set/images/7.png", png)


def quilt(name):
    def make(root, png):
        rows = [{"image": "1.jpg", "question": "<image>Is it benign?", "answer": "Yes", "answer_type": "CLOSED"}]
        put(root / name / "quiltvqa_test_w_ans.json", [*rows, {"image": "1.jpg", "text": "What stain?", "answer": "H&E"}])
        put(root / name / "images/1.jpg", png)

    return make


def pmc(root, png):
    put(root / "PMC-VQA/figures/PMC1_f.jpg", png)
    head = ["Figure_path", "Question", "Answer", "Choice A", "Choice B", "Choice C", "Choice D", "Answer_label"]
    with (root / "PMC-VQA/test_clean.csv").open("w", newline="") as file:
        csv.writer(file).writerows([head, ["PMC1_f.jpg", "Which?", "two", "A:one", "B: two", "C:three", "D:four", "B"]])


def rad(root, png):
    row = {"qid": 1, "image_name": "s.jpg", "question": "Is there a mass?", "answer": "No", "question_type": "PRES"}
    rows = [{**row, "phrase_type": "test_freeform"}, {**row, "question_type": "PLANE", "phrase_type": "test_para"}]
    put(root / "VQA_RAD/VQA_RAD Dataset Public.json", [*rows, {**row, "phrase_type": "freeform"}])
    put(root / "VQA_RAD/images/s.jpg", png)


def pvqa(root, png):
    rows = [{"image": {"bytes": png, "path": None}, "question": "is it fat?", "answer": "yes"}]
    (root / "path-vqa/data").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), root / "path-vqa/data/test-00000-of-00001.parquet")


def medx(root, png):
    row = {"id": "MM-1", "question": "Which?\nAnswer Choices: (A) a (B) b", "options": {"A": "a", "B": "b"}, "label": "B"}
    put(root / "MedXpertQA/MM/test.jsonl", {**row, "images": ["MM-1-a.png", "MM-1-b.png"], "body_system": "Skin"})
    for name in "ab":
        put(root / f"MedXpertQA/images/MM-1-{name}.png", png)


MADE = {
    "pathmmu": (pathmmu, ["bone", "bone", "x"], 1),
    "quilt-vqa": (quilt("Quilt_VQA"), ["Yes", "H&E"], 0),
    "quilt-vqa-red": (quilt("QuiltVQA_RED"), ["Yes", "H&E"], 0),
    "pmc-vqa": (pmc, ["two"], 0),
    "vqa-rad": (rad, ["No"], 0),
    "pathvqa": (pvqa, ["yes"], 0),
    "medxpertqa-mm": (medx, ["b"], 0),
}


def test_every_reader_has_a_copy_here():
    assert set(MADE) == set(READERS) and set(READERS) <= set(public_sets())


@pytest.mark.parametrize("id", MADE)
def test_public_layout(tmp_path, png, id):
    make, answers, missing = MADE[id]
    make(tmp_path, png)
    items = items_of(id, tmp_path, "test")
    assert [i.answer for i in items] == answers
    assert all(i.answer in i.choices for i in items if i.choices)
    usable, lost = with_pictures(items)
    assert lost == missing and all(image == png for i in usable for image in i.images()) and usable[0].images()
    assert "<image>" not in items[0].prompt(items[0].orders(1, 0)[0])


@pytest.mark.parametrize("id", [id for id in MADE if id != "pathvqa"])
def test_another_layout_is_explained(tmp_path, id):
    (tmp_path / "readme.txt").touch()
    with pytest.raises(BadDataset, match=r"expected .*; it holds readme.txt"):
        READERS[id](tmp_path, "test")
    with pytest.raises(BadDataset, match="Get it: "):
        items_of(id, tmp_path, "test")


def test_the_red_circle_in_parquet(tmp_path, png):
    rows = [{"image": {"bytes": png, "path": "x"}, "question": "What is circled?", "answer": "a mitosis", "answer_type": "OPEN"}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train.parquet")
    (item,) = READERS["quilt-vqa-red"](tmp_path, "test")
    assert item.images() == [png] and item.kind == "open"
    pq.write_table(pa.Table.from_pylist([{"picture": 1}]), tmp_path / "train.parquet")
    with pytest.raises(BadDataset, match="expected the columns image, question, answer"):
        READERS["quilt-vqa"](tmp_path, "test")


@pytest.fixture
def own(tmp_path, png):
    """Twelve questions of one's own about four pictures: eight of choice, two yes/no, two open."""
    rows = []
    for n in range(8):
        choices = {"A": "fat", "B": "bone", "C": "skin"}
        rows.append({"question": f"choice {n}?", "choices": choices, "answer": "ABC"[n % 3], "image": f"{n % 4}.png"})
    rows += [{"question": f"closed {n}?", "answer": ("yes", "no")[n], "image": f"{n}.png"} for n in range(2)]
    rows += [{"question": f"open {n}?", "answer": "a fatty liver", "image": f"{n}.png"} for n in range(2)]
    (tmp_path / "own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for n in range(4):
        put(tmp_path / f"{n}.png", png)
    return tmp_path / "own.jsonl"


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"question": "x"}, "line 1: expected question, choices, answer"),
        ({"question": "x", "choices": ["a"], "answer": "A"}, "1 choices"),
        ({"question": "x", "choices": ["a", "b"], "answer": "C"}, "is none of the choices"),
        ({"question": "x", "choices": ["a", "b"], "answer": 5}, "line 1"),
    ],
)
def test_a_faulty_line_of_ones_own_is_named(tmp_path, row, why):
    put(tmp_path / "own.jsonl", row)
    with pytest.raises(BadDataset, match=why):
        jsonl(tmp_path / "own.jsonl")


def rows_of(table):
    return {row[1].split(", ", 1)[1]: dict(zip(COLUMNS, row, strict=True)) for row in table.rows}


def test_a_brain_that_reads_answers_and_one_that_likes_a_letter(own, tmp_path):
    def knows(words, images, tools):
        if words.startswith("choice"):
            right = ["fat", "bone", "skin"][int(words.split("?")[0][7:]) % 3]
            return next(line[0] for line in words.splitlines() if line.endswith(right))
        return ("yes" if "closed 0" in words else "no") if words.startswith("closed") else "fatty liver"

    table, scores = evaluate(RuleBrain(knows), None, [str(own)], tmp_path / "cache")
    rows = rows_of(table)
    seen = rows["with the picture"]
    assert seen["choice, strict"].value == seen["same in every order"].value == seen["closed, strict"].value == 1.0
    assert seen["choice, invalid"].value == 0.0 and seen["open, token F1"].value == pytest.approx(1.0)
    assert (seen["n"], seen["pictures"]) == (12, 4) and rows["or the commonest answer"]["choice, strict"] == pytest.approx(1 / 3)
    assert {s.protocol for s in scores} == {"with the picture", "blank picture", "no picture"}
    assert {s.n for s in scores if s.metric.startswith("choice")} == {8}

    first = RuleBrain(lambda words, images, tools: "A" if images else "hard to say", name="first letter")
    rows = rows_of(evaluate(first, None, [str(own)], tmp_path / "cache", QuestionSettings(orders=6))[0])
    assert rows["with the picture"]["choice, strict"].value == pytest.approx(1 / 3)  # all six orders: the luck of a place is gone
    assert rows["with the picture"]["same in every order"].value == 0.0
    blind = rows["no picture"]
    assert blind["choice, invalid"].value == 1.0 and blind["choice, strict"].value == 0.0 < blind["choice, MMMU's rule"].value


def test_the_blank_picture_is_blank_and_a_rerun_asks_nothing(own, tmp_path):
    shown = []
    brain = RuleBrain(lambda words, images, tools: shown.append(images) or "A", name="looks")
    evaluate(brain, None, [str(own)], tmp_path / "cache", QuestionSettings(orders=1))
    assert [images for images in shown if images == [blank_picture()]] and [images for images in shown if not images]
    asked = len(brain.asked)
    evaluate(brain, None, [str(own)], tmp_path / "cache", QuestionSettings(orders=1))
    assert len(brain.asked) == asked == 36


def test_a_blind_brain_is_asked_without_pictures_alone(own, tmp_path):
    table, _ = evaluate(
        RuleBrain(lambda w, i, t: "A", sees=False), None, [str(own)], tmp_path / "cache", QuestionSettings(blind=False)
    )
    assert [row[1] for row in table.rows] == ["rule 1, no picture", "chance, or the commonest answer"]


def test_a_broken_picture_costs_its_item(own, tmp_path):
    (own.parent / "3.png").write_bytes(b"")
    table, _ = evaluate(
        RuleBrain(lambda w, i, t: "A"), None, [str(own)], tmp_path / "cache", QuestionSettings(orders=1, blind=False)
    )
    assert any("2 replies failed" in note for note in table.notes)


def test_subsets_have_rows_and_what_is_missing_is_named(tmp_path, png):
    pathmmu(tmp_path, png)
    table, _ = evaluate(RuleBrain(lambda w, i, t: "A"), tmp_path, (), tmp_path / "cache", QuestionSettings(blind=False, orders=1))
    assert [row[0] for row in table.rows] == ["pathmmu", "pathmmu / PubMed", "pathmmu / Atlas", "pathmmu"]
    notes = "\n".join(table.notes)
    assert "pathmmu: 1 questions left out" in notes and "MedXpertQA-MM: not in" in notes
    with pytest.raises(BadDataset, match=r"(?s)no set of questions was found.*Quilt-VQA"):
        evaluate(RuleBrain(lambda w, i, t: "A"), tmp_path / "none", (), tmp_path / "cache")


def test_a_limit_keeps_pictures_whole():
    items = [QuestionItem(id=str(n), question="?", answer="yes", cluster=str(n // 3)) for n in range(12)]
    drawn = draw(items, 7, 0)
    counts = [len([i for i in drawn if i.cluster == c]) for c in {i.cluster for i in drawn}]
    assert len(drawn) == 7 and sorted(counts) == [1, 3, 3]


def test_the_command(own, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from pathasst.assistant import brain
    from pathasst.cli.main import app

    monkeypatch.setattr(brain, "open_brain", lambda settings: RuleBrain(lambda w, i, t: "B"))
    done = CliRunner().invoke(app, ["eval", "questions", str(own), "--out", str(tmp_path / "out"), "--orders", "1"])
    assert done.exit_code == 0, done.output
    saved = json.loads((tmp_path / "out/leaderboard/questions.json").read_text())
    assert saved["model"] == "rule 1" and saved["scores"] and (tmp_path / "out/questions.md").is_file()
