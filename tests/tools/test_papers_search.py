from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from pathasst.papers import PaperIndex
from pathasst.tools.papers_search import PapersSearch


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
