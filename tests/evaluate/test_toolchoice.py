"""Tool choice is scored as it should be: by brains whose mistakes are known."""

from functools import cache
from pathlib import Path
from random import Random

import pytest
from evaluate_brains import RuleBrain

from pathasst.core.errors import BadSettings
from pathasst.core.templates import Template
from pathasst.evaluate.toolchoice import KINDS, ToolRequest, draw, evaluate, judge, load_requests, pictures, texts_of
from pathasst.instruct.measure import user_templates, words
from pathasst.instruct.wordings import Wordings
from pathasst.router.requests import LANGUAGES, wordings, words_of
from pathasst.tools.registry import CLASSES, all_specs, tool_class

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def row(table, name="all"):
    return dict(zip(table.columns, next(r for r in table.rows if r[0] == name), strict=True))


@cache
def by_words():
    return {r.say: r for r in load_requests()}


def oracle(words, images, tools):
    wanted = by_words()[words.split("\n(Pictures")[0]]
    return [
        (name, {"query": "x", **wanted.arguments} if name == "papers_search" else wanted.arguments) for name in wanted.expected
    ] or "no tool"


def test_at_least_three_hundred_requests_over_all_tools():
    requests = load_requests()
    assert len(requests) >= 300
    assert len({r.say for r in requests if not r.before}) == sum(not r.before for r in requests)
    assert set(CLASSES) <= {name for r in requests for name in r.expected}
    assert sum(not r.expected for r in requests) >= 60
    assert sum(len(r.expected) > 1 for r in requests) >= 20


def test_no_request_has_the_words_of_a_wording_that_is_trained_on():
    trained = {frozenset(words(e)) for t in user_templates(Wordings(), "train") for e in Template(t).expansions()}
    assert len(trained) > 20_000
    assert not [r.say for r in load_requests() if frozenset(words(r.say)) in trained]


def test_no_fresh_request_is_a_wording_of_the_router():
    fresh = {words_of(text) for text in texts_of(BENCHMARKS / "data" / "fresh_requests.jsonl")}
    assert len(fresh) >= 120
    for language in LANGUAGES:
        for wording in wordings(language):
            rng = Random(wording.text)
            texts = ("".join(Template(wording.text).parts(rng)[::2]) for _ in range(20))
            assert not fresh & {words_of(text) for text in texts}, wording.text


def test_a_sample_has_every_group_and_is_the_same_each_time():
    requests = load_requests()
    few = draw(requests, 60, seed=1)
    assert {r.group for r in few} == {r.group for r in requests}
    for group in {r.group for r in requests}:
        share = sum(r.group == group for r in requests) * 60 / len(requests)
        assert sum(r.group == group for r in few) == max(1, round(share))
    assert [r.id for r in few] == [r.id for r in requests if r in few]
    assert draw(requests, len(requests), seed=1) == draw(requests, 10**6, seed=1) == requests
    assert len(draw(requests, len(requests) - 1, seed=1)) >= len(requests) - 5
    assert few == draw(requests, 60, seed=1) != draw(requests, 60, seed=2)
    assert sorted(r.group for r in draw(requests, 1, seed=1)) == sorted({r.group for r in requests}), "one of each"
    assert draw(requests, 0, seed=1) == requests


def test_arguments_that_are_asked_for_fit_the_tools():
    for request in load_requests():
        if request.arguments and len(request.expected) == 1:
            given = dict(request.arguments)
            if request.expected[0] == "papers_search":
                given.setdefault("query", "anything")
            if request.expected[0] == "lbc_generate":
                given.setdefault("cell_class", "HSIL")
            tool_class(request.expected[0]).arguments.model_validate(given)


def test_a_brain_that_knows_everything_gets_everything(tmp_path, monkeypatch):
    monkeypatch.delenv("PATHASST_DATA", raising=False)
    table = evaluate(RuleBrain(oracle), tmp_path, tools=all_specs())
    found = row(table)
    assert found["right tools, or rightly none"].value == 1.0
    assert found["arguments right"].value == 1.0
    assert found["false calls"].value == 0.0


def test_a_brain_that_always_calls_one_tool(tmp_path, monkeypatch):
    monkeypatch.delenv("PATHASST_DATA", raising=False)
    table = evaluate(RuleBrain(lambda *_: [("ki67_cells", {})]), tmp_path, tools=all_specs())
    assert row(table, "ki67_cells")["right tools, or rightly none"].value == 1.0
    assert row(table, "none")["false calls"].value == 1.0
    assert row(table, "her2_cells")["recall"].value == 0.0
    assert row(table)["precision"].value < 0.2


def test_looking_is_no_tool_call(tmp_path, monkeypatch):
    monkeypatch.delenv("PATHASST_DATA", raising=False)
    seen = []

    def rule(words, images, tools):
        seen.append((words, len(images), "look" in tools))
        return [("look", {"question": "what"})]

    table = evaluate(RuleBrain(rule, sees=False), tmp_path, tools=all_specs())
    assert row(table, "none")["right tools, or rightly none"].value == 1.0
    assert all(n == 0 and look for _, n, look in seen)


def request(wanted, **arguments):
    return ToolRequest(id="x", group="g", say="s", kind="none", expected=tuple(wanted), arguments=arguments)


@pytest.mark.parametrize(
    ("wanted", "arguments", "calls", "right", "counts", "exact"),
    [
        (["a"], {}, [["a", {}]], True, (1, 0, 0), None),
        (["a"], {}, [["a", {}], ["a", {}]], False, (1, 1, 0), None),  # twice is once too often
        (["a", "a"], {}, [["a", {}]], False, (1, 0, 1), None),
        (["a", "b"], {}, [["b", {}], ["a", {}]], True, (2, 0, 0), None),  # order does not matter
        ([], {}, [], True, (0, 0, 0), None),
        ([], {}, [["a", {}]], False, (0, 1, 0), None),
        (["a"], {"x": 0.5}, [["a", {"x": 0.5}]], True, (1, 0, 0), True),
        (["a"], {"x": 0.5}, [["a", {"x": "0.5"}]], True, (1, 0, 0), True),
        (["a"], {"x": 0.5}, [["a", {}]], True, (1, 0, 0), False),
        (["a"], {"points": [[1, 2]]}, [["a", {"points": [[1.0, 2.0]]}]], True, (1, 0, 0), True),
        (["a"], {"query": "gastric pylori"}, [["a", {"query": "H. pylori and Gastric cancer"}]], True, (1, 0, 0), True),
        (["a"], {"query": "gastric pylori"}, [["a", {"query": "pylori"}]], True, (1, 0, 0), False),
        (["a"], {"x": 1}, [["b", {"x": 1}]], False, (0, 1, 1), False),
    ],
)
def test_judging(wanted, arguments, calls, right, counts, exact):
    found = judge(request(wanted, **arguments), {"said": "", "calls": calls, "failed": ""})
    assert (found["right"], found["counts"], found["arguments"]) == (right, counts, exact)


@pytest.mark.parametrize("text", ["a: [1, 2]", "a: {requests: [x}", "", "a: {requests: [{calls: []}], picture: blood}"])
def test_a_file_of_another_form_is_explained(tmp_path, text):
    (tmp_path / "r.yaml").write_text(text)
    for name in ("r.yaml", "none.yaml"):
        with pytest.raises(BadSettings, match=f"{name} is no file of requests"):
            load_requests(tmp_path / name)


OWN = """
after:
  counted:
    say: Count these.
    picture: blood
    call: {name: blood_cells, arguments: {subject: all}}
    result: 7 cells.
    answer: Seven.
blood_cells:
  picture: blood
  requests:
    - How many red cells?
    - {say: "And here?", after: counted, picture: tissue}
    - {say: Only platelets., args: {subject: platelets}}
papers_search:
  picture: none
  requests:
    - {say: Papers and a count., calls: [papers_search, blood_cells], picture: blood}
none:
  picture: none
  requests:
    - Thank you.
unable:
  picture: tissue
  requests: [Weigh it.]
"""


def brain(words, images, tools):
    """Three requests of six are answered rightly; arguments are wrong; one call is false."""
    if words.startswith("Papers"):
        return [("papers_search", {"query": "x"})]
    return "No." if words == "Weigh it." else [("blood_cells", {"subject": "all"})]


@pytest.fixture
def own(tmp_path):
    (tmp_path / "own.yaml").write_text(OWN)
    for kind, count in (("blood", 20), ("tissue", 1)):
        (tmp_path / "pictures" / kind / "deeper").mkdir(parents=True)
        for n in range(count):
            ending = (".jpg", ".JPEG", ".png")[n % 3]
            (tmp_path / "pictures" / kind / "deeper" / f"{n:02d}{ending}").write_bytes(f"{kind} {n}".encode())
        (tmp_path / "pictures" / kind / "a.txt").write_text("no picture")
    return tmp_path


class Kept(RuleBrain):
    """Keeps what it was given."""

    def reply(self, turns, images, tools):
        self.given = [*getattr(self, "given", []), (turns, images)]
        return super().reply(turns, images, tools)


def test_requests_of_ones_own_are_asked_as_written_and_scored(own):
    asked = Kept(brain)
    table = evaluate(asked, own, tools=all_specs(), requests=own / "own.yaml", folder=own / "pictures")
    first, again, _, both, thanks, heavy = asked.given
    assert [(t.role, t.content) for t in first[0]] == [("user", "<image>\nHow many red cells?")]
    assert first[1] == [b"blood 2"]  # every second of twenty, the eight of them in turn
    assert [(t.role, t.content, t.tool) for t in again[0]] == [
        ("user", "<image>\nCount these.", ""),
        ("assistant", "", ""),
        ("tool", "7 cells.", "blood_cells"),
        ("assistant", "Seven.", ""),
        ("user", "<image>\nAnd here?", ""),
    ]
    assert [(c.name, c.arguments, c.id) for c in again[0][1].tool_calls] == [("blood_cells", {"subject": "all"}, "call_1")]
    assert again[1] == [b"blood 4", b"tissue 0"]
    assert both[0][0].content.startswith("<image>") and both[1] == [b"blood 2"]
    assert [t.content for t in thanks[0]] == ["Thank you."] and thanks[1] == []
    assert heavy[1] == [b"tissue 0"]
    assert (table.id, table.title, table.section) == ("tools", "Tool choice: rule 1", "Tool Augmented MLLM Inference")
    assert table.columns == [
        "requests",
        "n",
        "right tools, or rightly none",
        "precision",
        "recall",
        "F1 of names",
        "arguments right",
        "false calls",
    ]
    means = [[c.value if hasattr(c, "value") else c for c in r] for r in table.rows]
    assert means == [
        ["all", 6, 4 / 6, 4 / 5, 4 / 5, 4 / 5, 0.0, 0.5],
        ["blood_cells", 3, 1.0, 1.0, 1.0, 1.0, 0.0, None],
        ["papers_search", 1, 0.0, 1.0, 0.5, pytest.approx(2 / 3), None, None],
        ["none", 1, 0.0, None, None, None, None, 1.0],
        ["unable", 1, 1.0, None, None, None, None, 0.0],
    ]
    assert table.items[3] == {
        "model": "rule 1",
        "id": "papers_search/1",
        "cluster": "papers_search/1",
        "part": "papers_search",
        "asked": "Papers and a count.",
        "wanted": ["papers_search", "blood_cells"],
        "said": "",
        "calls": [["papers_search", {"query": "x"}]],
        "score": 0.0,
    }
    assert [i["score"] for i in table.items] == [1.0, 1.0, 1.0, 0.0, 0.0, 1.0]
    assert f"pictures: {own / 'pictures'}." in table.notes[0]


def test_blind_brains_get_words_in_the_place_of_pictures(own):
    asked = Kept(brain, sees=False)
    evaluate(asked, own, tools=all_specs(), requests=own / "own.yaml", folder=own / "pictures")
    people = [t for t in asked.given[1][0] if t.role == "user"]
    assert [t.content for t in people] == ["Count these.", "And here?"]
    assert [[a.handle for a in t.attachments] for t in people] == [["image1"]] * 2
    assert asked.given[4][0][0].content == "Thank you."
    assert all(images == [] for _, images in asked.given)


def test_pictures_come_from_a_folder_else_the_samples_else_skimage(own, monkeypatch):
    found = pictures(own / "pictures")
    assert found["blood"] == [f"blood {n}".encode() for n in range(0, 16, 2)]
    assert found["tissue"] == [b"tissue 0"]
    for n in (1, 2):
        (own / f"pictures/tissue/{n}.png").write_bytes(f"tissue {n}".encode())
    assert len(pictures(own / "pictures")["tissue"]) == 3  # of a few, all
    with pytest.raises(BadSettings, match="folders of them called ki67, membrane"):
        pictures(own / "pictures" / "blood" / "deeper")
    monkeypatch.delenv("PATHASST_DATA", raising=False)
    shipped = pictures()
    assert set(shipped) == set(KINDS) and {len(p) for p in shipped.values()} == {1}
    assert shipped["ki67"][0].startswith(b"\x89PNG") and found["ki67"] == shipped["ki67"]
    (own / KINDS["blood"]).mkdir(parents=True)
    (own / KINDS["blood"] / "x.png").write_bytes(b"sample")
    monkeypatch.setenv("PATHASST_DATA", str(own))
    assert pictures()["blood"] == [b"sample"] and pictures()["tissue"] == shipped["tissue"]


def test_the_samples_have_every_kind(real_data):
    assert all(any((real_data / place).rglob("*.*")) for place in KINDS.values())


def test_where_the_pictures_came_from_is_said(tmp_path, monkeypatch):
    def note():
        return evaluate(RuleBrain(brain), tmp_path, limit=1).notes[0]

    monkeypatch.delenv("PATHASST_DATA", raising=False)
    assert "pictures: skimage's immunohistochemistry picture for every request." in note()
    monkeypatch.setenv("PATHASST_DATA", str(tmp_path))
    assert "pictures: samples of $PATHASST_DATA." in note()


@pytest.mark.parametrize(
    ("key", "wanted", "given", "same"),
    [
        ("query", "Ki67 breast", "breast, KI67", True),
        ("query", "Ki67 breast", None, False),
        ("subject", "all", "all", True),
        ("subject", "all", "one", False),
        ("k", 3, 3.0, True),
        ("k", 3, None, False),
        ("points", [[1, 2], [3, 4]], [[1, 2]], False),
        ("points", [[1, 2]], "there", False),
    ],
)
def test_arguments_are_the_same_as_numbers_or_as_words(key, wanted, given, same):
    verdict = judge(request(["a"], **{key: wanted}), {"calls": [["b", {}], ["a", {key: given, "other": 1}]]})
    assert verdict["arguments"] is same
