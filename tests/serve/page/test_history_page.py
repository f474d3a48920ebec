"""The history in a real Chromium. Apart from the other tests of the page: two pages at once share Gradio's folder of uploads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from page_parts import CHROMIUM, QUIET
from server_parts import running

from pathasst.tools.protocol import Registry

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="Chromium is not installed: apt-get install chromium"),
]
playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
pytest.importorskip("gradio", reason="Gradio is not installed")


def test_a_conversation_is_deleted_on_the_page_and_on_the_disk(tmp_path: Path) -> None:
    with running(tmp_path, Registry(), page=True, history_days=1) as site, playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        tab: Any = browser.new_page(viewport={"width": 360, "height": 740})
        tab.set_default_timeout(60_000)
        answers: list[bool] = []  # to "are you sure?"
        tab.on("dialog", lambda d: d.accept() if answers.pop(0) else d.dismiss())
        tab.goto(site.url)
        tab.wait_for_selector("body[data-ready]")
        tab.locator("#pa-question textarea").fill("hello")
        tab.keyboard.press("Enter")
        tab.wait_for_selector("text=It was: hello")
        tab.wait_for_selector("#pa-verdict", state="visible")  # the answer is whole, and stored
        history = site.service.history
        assert history is not None
        (stored,) = history.talks("local")
        delete = tab.get_by_role("button", name="Delete", exact=True)
        for sure in (False, True):
            answers.append(sure)
            with tab.expect_response(lambda response: "queue/data" in response.url):
                delete.click()
            if not sure:
                assert history.talks("local") == [stored]
        tab.wait_for_selector(".pa-empty", state="visible")
        assert history.talks("local") == [] and b"It was: hello" not in (tmp_path / "history.sqlite").read_bytes()
        tab.reload()
        tab.wait_for_selector(".pa-empty", state="visible")
        assert answers == []
        browser.close()
