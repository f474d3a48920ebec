"""Parts run by name from one set of settings; what cannot run costs itself and says why. Real gold, real pairs."""

import io
import json

import numpy as np
import pytest
import yaml
from fake_llm import FakeServer
from PIL import Image

from pathasst.core.errors import BadDataset, BadSettings
from pathasst.evaluate import report
from pathasst.evaluate.compare import compare
from pathasst.evaluate.curation import evaluate as curation
from pathasst.evaluate.curation import gold_captions, gold_figures, words_f1
from pathasst.evaluate.suite import PARTS, EvalSettings, run

GOLD = {
    "f1": {
        "caption": "Colon. (A) Normal mucosa. (B) Adenocarcinoma.",
        "panels": [{"label": "A", "caption": "Colon. Normal mucosa."}, {"label": "b", "caption": "Colon. Adenocarcinoma."}],
    },
    "f2": {"caption": "A single picture of the lung.", "panels": [{"label": "A", "caption": "nothing"}]},
}


@pytest.fixture
def gold(tmp_path):
    (tmp_path / "subcaptions").mkdir()
    (tmp_path / "subcaptions" / "mine.json").write_text(json.dumps(GOLD))
    figures = tmp_path / "articles" / "figures"
    figures.mkdir(parents=True)
    rng = np.random.default_rng(0)
    picture = np.full((200, 420, 3), 255, np.uint8)
    picture[10:190, 10:200] = rng.integers(0, 200, (180, 190, 3))
    picture[10:190, 220:410] = rng.integers(0, 200, (180, 190, 3))
    Image.fromarray(picture).save(figures / "one.png")
    row = {"image": "one.png", "panel_boxes": [[10, 10, 200, 190], [220, 10, 410, 190]], "labels": [], "caption_jats": ""}
    (tmp_path / "articles" / "figures.json").write_text(json.dumps([row]))
    return tmp_path


def test_curation_on_gold_of_ones_own(gold):
    table = curation(gold)
    kept = {(i["part"], i["id"]): (i["cluster"], i["score"], i.get("wanted"), i.get("said")) for i in table.items}
    assert kept == {
        ("captions, mine", "f1"): ("f1", 1.0, ["A", "B"], ["A", "B"]),
        ("captions, mine", "f2"): ("f2", 0.0, ["A"], []),
        ("panels, exact", "one.png"): ("one.png", 1.0, None, None),
    }
    assert [r[1] for r in compare(table, table).rows] == [2, 1]  # items of two runs can be paired
    found = {(r[0], r[3]): r[4].value for r in table.rows}
    assert found["captions", "letters exact"] == 0.5  # the second figure has no letters in its caption
    assert found["captions", "token F1"] == pytest.approx(0.5)
    assert found["captions", "verbatim"] == 1.0
    assert found["panels", "figures exact"] == 1.0
    assert found["panels", "mAP@0.5"] == pytest.approx(1.0)


def test_gold_of_another_form_is_explained(tmp_path):
    (tmp_path / "x.json").write_text('{"f": {"text": "a"}}')
    with pytest.raises(BadDataset, match="expected subcaptions"):
        gold_captions(tmp_path / "x.json")
    assert words_f1("a B", "b A") == 1.0 and words_f1("a", "") == words_f1("", "") == words_f1("a", "b") == 0.0
    assert words_f1("a a b", "a") == pytest.approx(0.5)  # bags: of two, one counts


def test_a_letter_on_one_side_alone_counts_nothing(tmp_path):
    (tmp_path / "subcaptions").mkdir()
    third = {"label": "C", "caption": "Colon. Nothing that the caption has."}
    gold = {"f": {"caption": GOLD["f1"]["caption"], "panels": [*GOLD["f1"]["panels"], third]}}
    (tmp_path / "subcaptions" / "mine.json").write_text(json.dumps(gold))
    found = {r[3]: r[4].value for r in curation(tmp_path).rows}
    assert found == {"letters exact": 0.0, "token F1": pytest.approx(2 / 3), "verbatim": 1.0}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"image": "none.png", "panel_boxes": [[0, 0, 9, 9]]}, "none.png has no picture"),
        ({"image": "one.png", "panel_boxes": [[0, 0, 9]]}, "or a box that is not x1 y1 x2 y2"),
        ({"image": "one.png"}, "panel_boxes"),
        ("one.png", "TypeError"),
    ],
)
def test_figures_of_another_form_are_explained(gold, row, said):
    (gold / "articles/figures.json").write_text(json.dumps([row]))
    with pytest.raises(BadDataset, match=rf"expected articles/figures.json(.|\n)*{said}"):
        gold_figures(gold / "articles")
    table = curation(gold)  # the captions are measured all the same
    assert {r[0] for r in table.rows} == {"captions"} and any(said in note for note in table.notes)


def test_missing_parts_cost_themselves_and_say_why(gold, tmp_path):
    settings = EvalSettings(data=gold, out=tmp_path / "out", clip="pathclip-embedded")
    tables, refused = run(["curation", "pathvqa", "papers", "leakage", "retrieval"], settings)
    assert [t.id for t in tables] == ["curation"]
    assert "PathVQA: not in" in refused["pathvqa"] and "Get it:" in refused["pathvqa"]
    assert "--index" in refused["papers"] and "--against" in refused["leakage"] and "--pairs" in refused["retrieval"]
    assert report.load(tmp_path / "out" / "curation.json").rows == tables[0].rows
    assert "figures exact" in (tmp_path / "out" / "report.html").read_text()


def test_settings_are_checked():
    with pytest.raises(BadSettings, match="must hold"):
        EvalSettings(prompt="answer!")
    with pytest.raises(BadSettings, match="limit: input should be greater than or equal to 0"):
        EvalSettings(limit=-1)
    with pytest.raises(BadSettings, match="workers: input should be greater than or equal to 1"):
        EvalSettings(workers=0)
    with pytest.raises(BadSettings, match="no part is called"):
        run(["imagenet"], EvalSettings())
    assert {"zero-shot", "retrieval", "pathvqa", "tools", "answers", "papers", "curation", "leakage"} == set(PARTS)


def png(seed):
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (16, 16, 3), np.uint8)).resize((256, 256), 3).save(out, "PNG")
    return out.getvalue()


def test_leakage_finds_the_planted_pair_alone(tmp_path):
    from pathasst.core.records import Pair, Source
    from pathasst.dataset import run_stage
    from pathasst.dataset.stage import Unit

    pictures = {f"p{n}": png(n) for n in range(4)}
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "copy.png").write_bytes(pictures["p2"])
    pairs = [
        Pair(pair_id=name, source=Source(article_id=name), image=image, caption=f"a text of its own about picture {name}")
        for name, image in (pictures | {"broken": b"no picture"}).items()
    ]
    run_stage(tmp_path / "pairs", stage="pairs", record=Pair, units=[Unit("all")], work=lambda unit: pairs, progress=False)
    settings = EvalSettings(out=tmp_path / "out", pairs=(tmp_path / "pairs",), against=(folder,))
    (table,), refused = run(["leakage"], settings)
    assert not refused
    assert [(r[1], r[2], r[3]) for r in table.rows] == [("hash", 1, 5), ("text", 0, 5)]
    assert table.items[0]["id"] == "p2"
    assert "set: 1 pictures of pairs could not be read." in table.notes


@pytest.fixture
def server():
    running = FakeServer()
    yield running
    running.stop()


def test_several_processes_ask_each_question_once_and_give_the_same_table(server, tmp_path, monkeypatch):
    monkeypatch.delenv("PATHASST_DATA", raising=False)
    requests = tmp_path / "requests.yaml"
    says = [f"Request number {n}, please." for n in range(12)]
    requests.write_text(yaml.safe_dump({"none": {"picture": "none", "requests": says}}))

    def asked():
        return sorted(body["messages"][-1]["content"] for body in server.requests)

    def measured(out, **changes):
        server.requests.clear()
        settings = EvalSettings(out=tmp_path / out, brain=f"{server.url}#fake", requests=requests, **changes)
        (table,), refused = run(["tools"], settings)
        assert not refused
        return table

    alone = measured("one")
    assert asked() == sorted(says)
    together = measured("two", workers=2)
    assert asked() == sorted(says)
    files = sorted((tmp_path / "two/predictions").glob("tools.?.jsonl"))
    assert len(files) == 2 and all(f.stat().st_size for f in files)
    assert (together.rows, together.items) == (alone.rows, alone.items)
    assert measured("two").rows == alone.rows and asked() == []  # one process reads what several wrote
