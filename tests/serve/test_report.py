"""The report of a real conversation: complete, self-contained, harmless."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from assistant_parts import CountDark, ScriptedBrain, call, say

from pathasst.assistant import ask
from pathasst.assistant.answer import Answer
from pathasst.core.errors import BadInput
from pathasst.core.records import NOTICE
from pathasst.serve import report
from pathasst.tools.protocol import Registry


class Addresses(HTMLParser):
    """Every address that a browser would load from."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loaded += [
            value or "" for name, value in attrs if name in ("src", "srcset", "action") or (tag == "link" and name == "href")
        ]


@pytest.fixture
def talk(spots: np.ndarray, registry: Registry) -> list[Answer]:
    brain = ScriptedBrain(
        [
            say("", call("count_dark", threshold=100)),
            say("Five spots. <script>alert(1)</script> ![x](http://evil.example/x.png)"),
            say("", call("papers_search", query="Ki67")),
            say("Prognostic [PMID 11111111], and more [PMID 999999]."),
        ]
    )
    first = ask(spots, "How many <b>dark</b> spots?", brain=brain, registry=registry)
    return [first, ask(None, "What is known?", first, brain=brain, registry=registry)]


def test_holds_pictures_tools_sources_and_notice(talk: list[Answer]) -> None:
    html = report.to_html(talk)
    assert html.count('<article class="exchange">') == 2
    assert "How many &lt;b&gt;dark&lt;/b&gt; spots?" in html and "<script>alert" not in html
    assert "count_dark@1" in html and "11111111" in html and "A Ki67 index above 20 % was prognostic." in html
    assert "<s>[PMID 999999]</s>" in html and html.count(NOTICE) >= 3
    assert re.search(r'class="pa-layers".*alt="Count dark on picture\. spot: 5"', html, re.DOTALL)


def test_loads_nothing(talk: list[Answer]) -> None:
    parser = Addresses()
    parser.feed(report.to_html(talk))
    assert parser.loaded and all(address.startswith("data:image/") for address in parser.loaded)


def test_is_written_and_needs_an_answer(talk: list[Answer], tmp_path: Path) -> None:
    path = report.save(talk[:1], tmp_path / "new" / "report.html", title="Case <7>")
    assert "<title>Case &lt;7&gt;</title>" in path.read_text(encoding="utf-8")
    with pytest.raises(BadInput, match="ask a question first"):
        report.to_html([])


def test_failed_calls_are_told(spots: np.ndarray) -> None:
    registry = Registry()
    registry.add(CountDark())
    brain = ScriptedBrain([say("", call("count_dark", threshold=9999)), say("It failed.")])
    html = report.to_html([ask(spots, "count", brain=brain, registry=registry)])
    assert "pa-state pa-bad" in html and "less than or equal to 255" in html
