"""Takes the pictures of page.md anew: the real server, with the shipped models, in Debian's Chromium.

    pathasst papers build                             # so that the literature can be asked
    PATHASST_DATA=… python docs/screenshots.py        # the slide comes from $PATHASST_DATA/slides

Look at them before they are committed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright
from skimage import data

IMAGES = Path(__file__).parent / "images"
PORT = 8971
WAIT = 600_000  # ms: small models on a busy machine
COUNT = "What fraction of the nuclei is Ki67 positive?"
READ = "What does the literature say about Ki-67 expression and prognosis in cancer?"


@contextmanager
def served() -> Iterator[str]:
    """The address of `pathasst serve`, as a person would start it."""
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-m", "pathasst.cli.main", "serve", "--port", str(PORT)]
        server = subprocess.Popen(command, cwd=home)
        try:
            for _ in range(300):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health", timeout=5).close()
                    break
                except OSError:
                    time.sleep(1)
            yield f"http://127.0.0.1:{PORT}"
        finally:
            server.terminate()
            server.wait()


def opened(browser: Any, address: str, **options: Any) -> Any:
    """A fresh tab of the page, ready."""
    tab = browser.new_context(**options).new_page()
    tab.set_default_timeout(WAIT)
    tab.goto(address)
    tab.wait_for_selector("body[data-ready]")
    return tab


def answered(tab: Any, question: str, shown: str) -> None:
    """Ask, and wait until `shown` is there and the answer is whole."""
    tab.locator("#pa-question textarea").fill(question)
    tab.keyboard.press("Enter")
    tab.wait_for_selector(shown)
    tab.wait_for_selector("#pa-verdict", state="visible")
    tab.wait_for_timeout(2000)


def save(tab: Any, name: str) -> None:
    """The visible part of the tab as `images/NAME.jpg`."""
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        tab.screenshot(path=file.name)
        Image.open(file.name).convert("RGB").save(IMAGES / f"{name}.jpg", quality=88, optimize=True)


def main() -> None:
    """Three pictures."""
    with served() as address, tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        picture = Path(folder, "ihc.png")
        Image.fromarray(data.immunohistochemistry()).save(picture)
        browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"])
        wide = {"viewport": {"width": 1280, "height": 960}}
        phone = {"viewport": {"width": 360, "height": 780}, "device_scale_factor": 1.5}
        for name, options in (("page-light", wide), ("page-phone", phone)):
            tab = opened(browser, address, **options)
            tab.set_input_files("#pa-file input[type=file]", picture)
            tab.wait_for_selector("#pa-shown img")
            answered(tab, COUNT, ".pa-layers")
            if name == "page-phone":
                tab.locator(".pa-layers").first.evaluate("e => window.scrollTo(0, e.getBoundingClientRect().top + scrollY - 110)")
                tab.wait_for_timeout(1000)
            save(tab, name)
        tab = opened(browser, address, **wide, color_scheme="dark")
        slides = sorted(Path(os.environ["PATHASST_DATA"], "slides").glob("*.svs"))
        tab.set_input_files("#pa-file input[type=file]", slides[0])
        tab.wait_for_selector("#pa-picker img")
        answered(tab, READ, ".pa-cite")
        save(tab, "page-dark")
        browser.close()


if __name__ == "__main__":
    main()
