"""PathVQA from both public layouts, through a brain, to Table 3; hostile pickles run nothing."""

import pickle
from pathlib import Path

import pytest
from evaluate_brains import BatchBrain, RuleBrain
from fake_llm import FakeServer
from PIL import Image

from pathasst.core.errors import BadDataset, Unreachable
from pathasst.evaluate import pathvqa
from pathasst.evaluate.asking import blank_picture
from pathasst.evaluate.pathvqa_data import PathVQAQuestion, load_plain, questions
from pathasst.evaluate.suite import EvalSettings, run

ROWS = [
    {"image": "test_0001", "question": "Is this red?", "answer": "yes"},
    {"image": "test_0001", "question": "Is this blue?", "answer": "no"},
    {"image": "test_0002", "question": "Is this red?", "answer": "no"},
    {"image": "test_0002", "question": "What colour is this?", "answer": "blue"},
    {"image": "test_0003", "question": "Is it lost?", "answer": "yes"},
]


@pytest.fixture
def public(tmp_path):
    root = tmp_path / "PathVQA"
    (root / "images" / "test").mkdir(parents=True)
    (root / "qas" / "test").mkdir(parents=True)
    for name, colour in (("test_0001", "red"), ("test_0002", "blue")):
        Image.new("RGB", (8, 8), colour).save(root / "images" / "test" / f"{name}.jpg")
    (root / "qas" / "test" / "test_qa.pkl").write_bytes(pickle.dumps(ROWS))
    return root


def colour_of(image):
    import io

    r, _, b = Image.open(io.BytesIO(image)).convert("RGB").getpixel((0, 0))
    return "white" if r > 200 and b > 200 else "red" if r > b else "blue"


def eyes(words, images, tools):
    seen = colour_of(images[0])
    if words.startswith("Is this"):
        return "Yes." if seen in words else "No."
    return seen


def test_public_files_and_missing_pictures(public):
    found, missing = questions(public)
    assert missing == 1
    assert [(q.image, q.answer) for q in found] == [(r["image"], r["answer"]) for r in ROWS[:4]]
    assert found[0].load() == (public / "images" / "test" / "test_0001.jpg").read_bytes()


def test_hub_layout_gives_the_same_questions(tmp_path, public):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {"image": {"bytes": q.load(), "path": None}, "question": q.question, "answer": q.answer} for q in questions(public)[0]
    ]
    (tmp_path / "hub" / "data").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "hub" / "data" / "test-00000-of-00001.parquet")
    found, missing = questions(tmp_path / "hub")
    assert missing == 0
    assert [(q.question, q.answer) for q in found] == [(r["question"], r["answer"]) for r in ROWS[:4]]
    assert len({q.image for q in found}) == 2  # questions of one picture stay one cluster


def test_table_of_a_brain_with_eyes_and_its_blind_twin(public, tmp_path):
    brain = BatchBrain(eyes)
    table = pathvqa.evaluate(brain, questions(public)[0], tmp_path / "cache")
    rows = {r[0]: dict(zip(table.columns, r, strict=True)) for r in table.rows}
    assert rows["rule 1"]["closed, strict"].value == 1.0
    assert rows["rule 1"]["open, token F1"].value == 1.0
    blind = rows["rule 1, blank picture"]
    assert blind["closed, strict"].value == pytest.approx(2 / 3)  # says no to everything
    assert blind["open, exact"].value == 0.0
    assert rows["majority class"]["closed, strict"].value == pytest.approx(2 / 3)
    assert rows["paper: PathAsst"]["closed, strict"] == 0.909
    assert max(brain.batches) > 1
    asked = len(brain.asked)
    pathvqa.evaluate(brain, questions(public)[0], tmp_path / "cache")
    assert len(brain.asked) == asked  # a rerun costs nothing


TABLE_3 = {
    "M2I2": (0.880, 0.363),
    "CLIP-ViT+GPT2": (0.870, 0.400),
    "MMQ": (0.840, 0.134),
    "LLaVA": (0.810, 0.192),
    "BLIP-2": (0.801, 0.341),
    "PathAsst with CLIP": (0.897, 0.376),
    "PathAsst": (0.909, 0.384),
}


def test_a_table_says_all_that_it_was_made_from(public, tmp_path):
    class Kept(RuleBrain):
        def reply(self, turns, images, tools):
            self.turns = [*getattr(self, "turns", []), *turns]
            return super().reply(turns, images, tools)

    brain = Kept(eyes)
    table = pathvqa.evaluate(brain, questions(public)[0], tmp_path, blind=False)
    assert (table.id, table.title, table.section) == ("pathvqa", "PathVQA: answers about pictures", "Table 3")
    assert table.columns == [
        "model",
        *(f"closed, {rule}" for rule in ("strict", "LLaVA-Med's rule", "quilt's rule", "invalid")),
        *(f"open, {measure}" for measure in ("token F1", "exact", "recall")),
    ]
    printed = {r[0].removeprefix("paper: "): (r[1], r[5]) for r in table.rows if r[0].startswith("paper: ")}
    assert printed == {name: pytest.approx(both) for name, both in TABLE_3.items()}
    assert {(t.role, t.content) for t in brain.turns} == {("user", f"<image>\n{r['question']}") for r in ROWS[:4]}
    assert [(i["model"], i["id"], i["cluster"], i["part"], i["wanted"], i["said"], i["score"]) for i in table.items] == [
        ("rule 1", "test_0001: Is this red?", "test_0001", "closed", "yes", "Yes.", 1.0),
        ("rule 1", "test_0001: Is this blue?", "test_0001", "closed", "no", "No.", 1.0),
        ("rule 1", "test_0002: Is this red?", "test_0002", "closed", "no", "No.", 1.0),
        ("rule 1", "test_0002: What colour is this?", "test_0002", "open", "blue", "blue", 1.0),
    ]
    assert table.notes == [
        "n = 4 questions (3 closed) about 2 pictures; 95 % intervals, bootstrap by picture. "
        "Strict: the first yes or no decides, none is wrong. Prompt: '{question}'."
    ]
    assert (tmp_path / "pathvqa.jsonl").is_file()
    majority = next(r for r in table.rows if r[0] == "majority class")
    assert (majority[1].value, majority[6].value) == (pytest.approx(2 / 3), 1.0)  # no, and blue


def test_invalid_answers_are_wrong_and_counted(public, tmp_path):
    table = pathvqa.evaluate(RuleBrain(lambda *_: "The tissue is normal"), questions(public)[0], tmp_path, blind=False)
    row = dict(zip(table.columns, table.rows[0], strict=True))
    assert row["closed, strict"].value == 0.0
    assert row["closed, invalid"].value == 1.0
    assert row["closed, LLaVA-Med's rule"].value == pytest.approx(2 / 3)  # the loophole gains two of three


def test_the_part_leaves_out_lost_pictures_and_names_another_split(public, tmp_path):
    server = FakeServer()
    server.answer = lambda body: "Yes."
    settings = EvalSettings(data=public.parent, out=tmp_path / "out", brain=f"{server.url}#m", blind=False)
    try:
        (table,), refused = run(["pathvqa"], settings)
        assert not refused and table.data == "PathVQA, split test"
        assert table.rows[0][0] == f"m at {server.url}" and table.rows[0][1].value == pytest.approx(1 / 3)
        assert "1 questions left out, since their picture is missing." in table.notes
        assert len(server.requests) == 4
        run(["pathvqa"], settings)
        assert len(server.requests) == 4  # a rerun costs nothing
        _, refused = run(["pathvqa"], settings.model_copy(update={"split": ("val",)}))
        assert "has no val_qa.pkl and no val-*.parquet" in refused["pathvqa"]
    finally:
        server.stop()


def test_questions_whose_pictures_are_all_lost_are_no_set(public):
    for path in public.rglob("*.jpg"):
        path.unlink()
    with pytest.raises(BadDataset, match="none of the 5 questions of split test has its picture under images/"):
        questions(public)


def test_a_picture_that_vanishes_while_measuring_costs_its_items(public, tmp_path):
    found, _ = questions(public)
    (public / "images/test/test_0002.jpg").unlink()
    table = pathvqa.evaluate(BatchBrain(eyes), found, tmp_path, blind=False)
    assert "rule 1: 2 pictures could not be read and count as wrong." in table.notes
    assert table.rows[0][1].value == pytest.approx(2 / 3)


def test_a_server_that_goes_away_says_that_answers_are_kept(public, tmp_path):
    def gone(words, images, tools):
        if "blue" in words:
            raise Unreachable("no answer.")
        return "yes"

    with pytest.raises(Unreachable, match=r"no answer. Predictions so far are kept; the same command goes on."):
        pathvqa.evaluate(RuleBrain(gone), questions(public)[0], tmp_path, blind=False)


def test_an_unreadable_picture_costs_its_item(tmp_path):
    asked = [PathVQAQuestion("a", "Is it?", "yes", b""), PathVQAQuestion("b", "Is it?", "yes", blank_picture())]
    table = pathvqa.evaluate(BatchBrain(lambda *_: "yes"), asked, tmp_path, blind=False)
    assert table.rows[0][1].value == 0.5
    assert any("1 pictures could not be read" in n for n in table.notes)


class Evil:
    def __reduce__(self):
        import os

        return os.system, ("touch /tmp/pathasst-was-here",)


@pytest.mark.parametrize(
    "content", [pickle.dumps([Evil()]), pickle.dumps(Path("/")), b"", b"not a pickle", pickle.dumps(ROWS)[:-5]]
)
def test_hostile_and_broken_pickles_are_refused(content):
    with pytest.raises(BadDataset):
        load_plain(content, "test_qa.pkl")
    assert not Path("/tmp/pathasst-was-here").exists()


@pytest.mark.parametrize("rows", [{"a": 1}, [{"image": "x"}], ["text"], 5])
def test_other_contents_are_explained(public, rows):
    (public / "qas" / "test" / "test_qa.pkl").write_bytes(pickle.dumps(rows))
    with pytest.raises(BadDataset, match=r"expected|not a list"):
        questions(public)


def test_a_sample_is_drawn_by_picture(public):
    found, _ = questions(public)
    few = pathvqa.draw(found, 2, seed=0)
    assert len({q.image for q in few}) == 1
    assert pathvqa.draw(found, 0, seed=0) == pathvqa.draw(found, len(found), seed=0) == pathvqa.draw(found, 99, seed=1) == found


def test_an_item_of_a_closed_question_counts_the_first_yes_or_no_alone(public, tmp_path):
    """Not the words around it, which token F1 would."""
    table = pathvqa.evaluate(RuleBrain(lambda *_: "No, it is a nice blue."), questions(public)[0], tmp_path, blind=False)
    scores = {i["id"]: i["score"] for i in table.items}
    assert scores["test_0001: Is this blue?"] == 1.0 and scores["test_0001: Is this red?"] == 0.0
    assert 0 < scores["test_0002: What colour is this?"] < 1
