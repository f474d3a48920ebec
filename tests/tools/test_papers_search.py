from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pathasst.assistant.compose.literature import from_abstracts
from pathasst.assistant.images import ChatPictures
from pathasst.assistant.plan import literature_call, plan
from pathasst.core.records import ToolCall
from pathasst.papers import BuildSettings, PaperIndex, build
from pathasst.router.route import Reason, Route
from pathasst.tools.papers_search import PapersArguments, PapersSearch
from pathasst.tools.protocol import Registry


def test_first_searches_that_come_together_open_the_collection_once(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []

    def slowly() -> object:
        time.sleep(0.05)
        opened.append(object())
        return opened[-1]

    monkeypatch.setattr(PaperIndex, "open", slowly)
    tool = PapersSearch()
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: tool.index(), range(4)))
    assert len(opened) == 1
    assert found == opened * 4


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> PapersSearch:
    """Over two abstracts of one subject, of 1999 and 2020, found by words."""
    monkeypatch.setenv("PATHASST_CACHE", str(tmp_path / "cache"))
    rows = ["pmid,title,abstract,year"]
    rows += [f"{n},Mesothelioma {n},Mesothelioma of the pleura follows asbestos.,{year}" for n, year in ((1, 1999), (2, 2020))]
    (tmp_path / "a.csv").write_text("\n".join(rows))
    build([tmp_path / "a.csv"], tmp_path / "i", BuildSettings(workers=1), say=lambda text: None)
    return PapersSearch(PaperIndex.open(tmp_path / "i"))


def test_a_search_keeps_to_the_years_asked_for(tool: PapersSearch) -> None:
    def pmids(**years: int) -> list[str]:
        return sorted(hit.pmid for hit in tool.run(PapersArguments(query="asbestos and mesothelioma", **years), None).hits)

    assert pmids() == ["1", "2"]
    assert pmids(since=2000) == ["2"]
    assert pmids(until=2000) == ["1"]
    assert pmids(since=2020, until=2020) == ["2"]
    none = tool.run(PapersArguments(query="asbestos and mesothelioma", since=2021), None)
    assert none.hits == []
    assert none.text == "No abstract was found for this query from 2021 on."
    answer = " ".join(s.text for s in from_abstracts("Mesothelioma papers since 2021?", none))
    assert "No abstract here from 2021 on is about this." in answer
    with pytest.raises(ValueError, match="later than until"):
        PapersArguments(query="mesothelioma", since=2021, until=2000)


def test_a_question_s_years_reach_the_search() -> None:
    """The plan made the call anew, without what the router had read for it."""
    words = "Papers since 2015 on mesothelioma?"
    call = ToolCall(name="papers_search", arguments={"query": "mesothelioma", "since": 2015, "k": 3})
    route = Route(calls=(call,), reason=Reason.CALLS, confidence=0.9, tools=("papers_search",))
    registry = Registry({"papers_search": PapersSearch()})
    (planned,) = plan(words, route, ChatPictures(), registry, None).calls
    search = literature_call(planned, words, [], None, alone=True)
    assert search is not None
    assert search.arguments == {"query": "mesothelioma", "since": 2015, "k": 3}
