"""Tool choice is scored as it should be: by brains whose mistakes are known."""

import pytest
from evaluate_brains import RuleBrain

from pathasst.errors import BadSettings
from pathasst.evaluate.toolchoice import Request, draw, evaluate, judge, load_requests
from pathasst.instruct.measure import user_templates, words
from pathasst.instruct.wordings import Template, Wordings
from pathasst.tools.registry import CLASSES, all_specs, tool_class


def row(table, name="all"):
    return dict(zip(table.columns, next(r for r in table.rows if r[0] == name), strict=True))


def oracle(words, images, tools):
    wanted = {r.say: r for r in load_requests()}[words.split("\n(Pictures")[0]]
    return [
        (name, {"query": "x", **wanted.arguments} if name == "papers_search" else wanted.arguments) for name in wanted.wanted
    ] or "no tool"


def test_at_least_three_hundred_requests_over_all_tools():
    requests = load_requests()
    assert len(requests) >= 300
    assert len({r.say for r in requests if not r.before}) == sum(not r.before for r in requests)
    assert set(CLASSES) <= {name for r in requests for name in r.wanted}
    assert sum(not r.wanted for r in requests) >= 60
    assert sum(len(r.wanted) > 1 for r in requests) >= 20


def test_no_request_has_the_words_of_a_wording_that_is_trained_on():
    trained = {frozenset(words(e)) for t in user_templates(Wordings(), "train") for e in Template(t).expansions()}
    assert len(trained) > 20_000
    assert not [r.say for r in load_requests() if frozenset(words(r.say)) in trained]


def test_a_sample_has_every_group_and_is_the_same_each_time():
    requests = load_requests()
    few = draw(requests, 60, seed=1)
    assert {r.group for r in few} == {r.group for r in requests}
    assert 50 <= len(few) <= 70
    assert few == draw(requests, 60, seed=1) != draw(requests, 60, seed=2)
    assert draw(requests, 0, seed=1) == requests


def test_arguments_that_are_asked_for_fit_the_tools():
    for request in load_requests():
        if request.arguments and len(request.wanted) == 1:
            given = dict(request.arguments)
            if request.wanted[0] == "papers_search":
                given.setdefault("query", "anything")
            if request.wanted[0] == "lbc_generate":
                given.setdefault("cell_class", "HSIL")
            tool_class(request.wanted[0]).arguments.model_validate(given)


def test_no_request_is_a_training_wording():
    from pathasst.instruct.measure import user_templates

    trained = {t.lower().strip(" ?.!") for part in ("train", "test") for t in user_templates(Wordings(), part)}
    both = [r.say for r in load_requests() if r.say.lower().strip(" ?.!") in trained and len(r.say.split()) > 4]
    assert both == []


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


def test_looking_is_no_tool_call_and_blind_brains_are_told_of_pictures(tmp_path, monkeypatch):
    monkeypatch.delenv("PATHASST_DATA", raising=False)
    seen = []

    def rule(words, images, tools):
        seen.append((words, len(images), "look" in tools))
        return [("look", {"question": "what"})]

    table = evaluate(RuleBrain(rule, sees=False), tmp_path, tools=all_specs())
    assert row(table, "none")["right tools, or rightly none"].value == 1.0
    assert all(n == 0 and look for _, n, look in seen)
    assert any("(Pictures given" in words for words, _, _ in seen)


def request(wanted, **arguments):
    return Request(id="x", group="g", say="s", kind="none", wanted=tuple(wanted), arguments=arguments)


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


def test_a_file_of_another_form_is_explained(tmp_path):
    (tmp_path / "r.yaml").write_text("a: [1, 2]")
    with pytest.raises(BadSettings, match="no file of requests"):
        load_requests(tmp_path / "r.yaml")
