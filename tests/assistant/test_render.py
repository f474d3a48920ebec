from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from assistant_parts import ScriptedBrain, Shelf, call, say
from markdown_it import MarkdownIt
from PIL import Image
from rich.console import Console

from pathasst.assistant import Answer, ask, render
from pathasst.core.records import NOTICE, Hit
from pathasst.tools.protocol import Registry


@pytest.fixture
def answer(spots: np.ndarray, registry: Registry) -> Answer:
    script = [
        say("", call("count_dark", Threshold=90), call("papers_search", query="Ki67")),
        say("**5 spots**; high Ki67 is bad [PMID 11111111], [PMID 87654321]. ![p](http://evil/x) <script>alert(1)</script>"),
    ]
    return ask(spots, "How many?", brain=ScriptedBrain(script), registry=registry)


def printed(answer: Answer) -> str:
    out = io.StringIO()
    Console(file=out, width=120, force_terminal=True, color_system="truecolor").print(render.to_terminal(answer))
    return out.getvalue()


def test_the_terminal_shows_the_answer_and_all_behind_it(answer: Answer) -> None:
    shown = printed(answer)
    for words in (
        "5 spots",
        "count_dark(",
        "on image1",
        "count_dark@1",
        "5 dark spots.",
        "A Ki67 index above 20 %",
        "Ki67 in breast",
    ):
        assert words in shown
    assert NOTICE in " ".join(shown.split())
    assert "\x1b[9m" in shown or "9m[PMID 87654321]" in shown  # struck out
    assert "was repaired before it ran" in shown
    assert "Retrieved" in shown or "Also retrieved" in shown


def test_what_a_search_found_is_listed_once(answer: Answer) -> None:
    passage = answer.sources[0].passage
    for shown in (" ".join(printed(answer).split()), render.to_markdown(answer)):
        assert shown.count(passage) == 1
        assert f"{len(answer.sources)} abstracts: see the sources." in shown


def test_markdown_shows_the_same_and_obeys_no_markup(answer: Answer) -> None:
    text = render.to_markdown(answer)
    assert "~~[PMID 87654321]~~" in text
    assert "[PMID 11111111](https://pubmed.ncbi.nlm.nih.gov/11111111/)" in text
    assert "> A Ki67 index above 20 % was prognostic." in text
    assert "(image2_count_dark.png)" in text
    assert "<script>" not in text
    assert "](http://evil" not in text
    assert "5 dark spots." in text
    assert NOTICE in text


def test_a_folder_holds_text_json_and_readable_pictures(answer: Answer, tmp_path: Path) -> None:
    files = render.save(answer, tmp_path / "out")
    assert {f.name for f in files} == {"answer.md", "answer.json", "image1_person.png", "image2_count_dark.png"}
    assert Image.open(tmp_path / "out" / "image2_count_dark.png").size == (96, 96)
    data = json.loads((tmp_path / "out" / "answer.json").read_text())
    ran = data["ran"][0]
    assert (ran["tool"], ran["version"], ran["arguments"], ran["image"]) == (
        "count_dark",
        "count_dark@1",
        {"threshold": 90},
        "image1",
    )
    assert ran["seconds"] >= 0
    assert len(ran["annotations"]) == 5
    assert data["struck_references"] == ["PMID 87654321"]
    assert data["notices"][-1] == NOTICE
    assert [s["pmid"] for s in data["sources"] if s["cited"]] == ["11111111"]
    for line in (tmp_path / "out" / "answer.md").read_text().splitlines():
        if line.startswith("!["):
            assert (tmp_path / "out" / line.split("](")[1].rstrip(")")).is_file()


def test_markup_and_escapes_in_foreign_text_are_harmless(registry: Registry) -> None:
    title = "[bold red]x[/] \x1b]0;owned\x07 [a](http://evil) <b> `"
    registry.add(Shelf([Hit(pmid="5555", title=title, passage="pass\x1b[2Jage [/bold]", journal="*J*")]))
    answer = ask(
        None,
        "[/] \x1b[2J?",
        brain=ScriptedBrain([say("", call("papers_search", query="xx")), say("\x1b[2Jok")]),
        registry=registry,
    )
    shown = printed(answer)
    assert "\x1b]0;" not in shown
    assert "\x1b[2J" not in shown
    assert "[bold red]x[/]" in shown
    text = render.to_markdown(answer)
    assert "\x1b" not in text
    html = MarkdownIt().render(text)
    assert "evil" in html
    assert 'href="http://evil' not in html
    assert "<b>" not in html


def test_long_passages_are_cut(registry: Registry) -> None:
    registry.add(Shelf([Hit(pmid="5555", title="T", passage="word " * 1000)]))
    answer = ask(None, "?", brain=ScriptedBrain([say("", call("papers_search", query="xx")), say("ok")]), registry=registry)
    assert max(map(len, render.to_markdown(answer).splitlines())) < 30_000
    assert "word …" in render.to_markdown(answer)


def test_a_failed_call_is_shown_as_failed(spots: np.ndarray, registry: Registry) -> None:
    answer = ask(spots, "?", brain=ScriptedBrain([say("", call("broken")), say("It did not work.")]), registry=registry)
    assert "failed: broken failed inside: ZeroDivisionError" in render.to_markdown(answer)
    assert "ZeroDivisionError" in printed(answer)
