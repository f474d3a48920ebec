"""The page in a real Chromium, against the real server on loopback, with real small tools and a brain that follows rules."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from assistant_parts import CountDark, Draw
from page_parts import CHROMIUM, CONTRAST, FOCUSED, QUIET, collection, slide
from server_parts import Running, running

from pathasst.core.records import NOTICE
from pathasst.imaging.pictures import encode_png
from pathasst.tools.papers_search import PapersSearch
from pathasst.tools.protocol import Registry

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="Chromium is not installed: apt-get install chromium"),
]
playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
pytest.importorskip("gradio", reason="Gradio is not installed")
expect = playwright.expect
READ = (".pa-words p", ".pa-quiet", ".pa-foot", ".pa-notices li", ".pa-cite", ".pa-example", "#pa-right button", "label span")
READ += ("h1, h2, h4", ".pa-research")
"""What must be readable in both colour schemes."""
WAIT = int(os.environ.get("PATHASST_BROWSER_WAIT", "60000"))  # ms, for a machine that is busy with other work
expect.set_options(timeout=WAIT)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    home = tmp_path_factory.mktemp("page")
    registry = Registry()
    for tool in (CountDark(), Draw(), PapersSearch(collection(home))):
        registry.add(tool)
    with running(home, registry, page=True) as server:
        yield server


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def contexts(chromium: Any) -> dict[str, Any]:
    """Browser contexts by their options: tabs of one share what the browser keeps of the server's files, and no conversation."""
    return {}


@pytest.fixture
def options() -> dict[str, Any]:
    return {"viewport": {"width": 1280, "height": 900}}


@pytest.fixture
def page(site: Running, chromium: Any, contexts: dict[str, Any], options: dict[str, Any]) -> Iterator[Any]:
    """A fresh tab. Fails afterwards if it asked anybody but the server for anything, or if a script of it failed."""
    context = contexts.get(repr(options)) or contexts.setdefault(repr(options), chromium.new_context(**options))
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    context.set_default_timeout(WAIT)
    tab = context.new_page()
    elsewhere: list[str] = []
    faults: list[str] = []
    tab.on("request", lambda r: None if r.url.startswith((site.url, "data:", "blob:", "file:")) else elsewhere.append(r.url))
    tab.on("pageerror", lambda e: faults.append(str(e)))
    tab.on("dialog", lambda d: (faults.append(f"dialog: {d.message}"), d.dismiss()))
    opened(tab, site)
    yield tab
    tab.close()
    assert elsewhere == []
    assert faults == []


def opened(tab: Any, site: Running) -> None:
    tab.goto(site.url)
    tab.wait_for_selector("body[data-ready]")


@pytest.fixture
def picture(spots: np.ndarray, tmp_path: Path) -> Path:
    path = tmp_path / "spots.png"
    path.write_bytes(encode_png(spots))
    return path


def ask(tab: Any, question: str) -> None:
    tab.locator("#pa-question textarea").fill(question)
    tab.keyboard.press("Enter")


def give(tab: Any, path: Path) -> None:
    tab.set_input_files("#pa-file input[type=file]", path)


def test_a_picture_is_counted_with_layers_and_tables(page: Any, picture: Path) -> None:
    give(page, picture)
    expect(page.locator(".pa-current")).to_contain_text("spots.png")
    ask(page, "Please count the dark spots")
    figure = page.locator(".pa-layers")
    expect(figure.locator("img")).to_have_attribute("alt", "Count dark on spots.png. spot: 5")
    assert figure.locator("path.pa-points").get_attribute("d").count("Z") == 5
    expect(page.locator(".pa-words").last).to_contain_text("5 dark spots")
    expect(page.get_by_role("note")).to_contain_text(NOTICE)

    layer = figure.locator("g.pa-l0")
    expect(layer).to_be_visible()
    figure.get_by_label("Show spot").uncheck()
    expect(layer).to_be_hidden()

    table = page.locator(".pa-table", has_text="Counted by class")
    expect(table.locator("tbody")).to_contain_text("spot5100.0")
    data = table.get_by_role("link", name="Download CSV").get_attribute("href").split(",", 1)[1]
    assert list(csv.reader(io.StringIO(base64.b64decode(data).decode("utf-8-sig")))) == [
        ["Class", "Count", "Share (%)"],
        ["spot", "5", "100.0"],
    ]
    step = page.locator("details.pa-step")
    expect(step.locator("summary")).to_contain_text("doneCount dark")
    assert step.locator(".pa-seconds").inner_text().endswith(" s")
    step.locator("summary").click()
    expect(step).to_contain_text("count_dark@1")

    page.reload()  # the conversation and its picture come back
    expect(page.locator(".pa-exchange .pa-layers")).to_be_visible()
    expect(page.locator(".pa-current")).to_contain_text("in the conversation")
    page.get_by_role("button", name="New conversation").click()
    expect(page.locator(".pa-empty")).to_be_visible()
    page.locator("#pa-talks input").click()
    page.get_by_role("option", name="1 · Please count the dark spots").click()
    expect(page.locator(".pa-exchange .pa-layers")).to_be_visible()


def test_sources_are_cited_others_struck_and_a_report_is_saved(page: Any, site: Running, tmp_path: Path) -> None:
    ask(page, "What do the papers say? <img src=x onerror=alert(1)> {{value}} ${alert(1)}")
    link = page.locator(".pa-words a.pa-cite", has_text="PMID 11111111").first
    expect(link).to_have_attribute("href", "https://pubmed.ncbi.nlm.nih.gov/11111111/")
    expect(page.locator(".pa-words s")).to_have_text("[PMID 99999999]")
    source = page.locator(".pa-source", has_text="PMID 11111111")
    expect(source.locator(".pa-title")).to_have_text("Ki67 in breast cancer")
    expect(source.locator("blockquote")).to_contain_text("prognostic in 312 patients")
    expect(page.locator(".pa-notices")).to_contain_text("1 reference struck out")
    expect(page.locator(".pa-person")).to_contain_text("<img src=x onerror=alert(1)> {{value}} ${alert(1)}")

    with page.expect_download() as saved:
        page.get_by_role("button", name="Save report").click()
    report = tmp_path / "report.html"
    saved.value.save_as(report)
    text = report.read_text(encoding="utf-8")
    assert NOTICE in text and "index@1 (3 abstracts)" in text and "PMID 11111111" in text
    page.goto(report.as_uri())
    expect(page.locator("h1")).to_have_text("PathAsst report")

    opened(page, site)
    page.get_by_role("button", name="No", exact=True).click()
    page.get_by_label("What was wrong or missing?").fill("too short")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#pa-thanks")).to_contain_text("stored on this server")
    kept = [json.loads(line) for line in (site.service.settings.serve.home / "feedback.jsonl").read_text().splitlines()]
    assert [(k.get("verdict"), k["comment"]) for k in kept] == [("bad", ""), (None, "too short")]  # one verdict, and words on it
    assert kept[1]["about"] == kept[0]["id"] and {k["user"] for k in kept} == {"local"}
    expect(page.locator("#pa-good")).to_be_hidden()
    assert "data:image" not in json.dumps(kept)

    ask(page, "And the papers again?")  # below a long answer: it comes to the top by itself
    expect(page.locator(".pa-person").last).to_contain_text("again")
    page.wait_for_function("[...document.querySelectorAll('.pa-person')].at(-1).getBoundingClientRect().top < 200")
    expect(page.locator("#pa-good")).to_be_visible()  # every answer is asked about
    expect(page.locator("#pa-thanks")).to_contain_text("right and useful")

    with page.expect_download() as saved:
        source.first.get_by_role("link", name="RIS").click()
    assert saved.value.suggested_filename == "pmid11111111.ris"
    assert "TI  - Ki67 in breast cancer" in Path(saved.value.path()).read_text()
    source.first.get_by_role("button", name="Copy citation").click()
    assert page.evaluate("navigator.clipboard.readText()").startswith("Ki67 in breast cancer.")


def test_an_answer_is_asked_again_edited_and_copied(page: Any, site: Running, picture: Path) -> None:
    give(page, picture)
    expect(page.locator(".pa-current")).to_be_visible()
    ask(page, "count")
    expect(page.locator(".pa-answer .pa-layers")).to_be_visible()
    asked = len(site.brain.given)
    page.get_by_role("button", name="Ask again").click()
    while len(site.brain.given) == asked:
        page.wait_for_timeout(50)
    page.wait_for_function("document.querySelectorAll('.pa-exchange').length === 1 && !document.querySelector('.pa-waiting')")
    expect(page.locator(".pa-exchange .pa-layers")).to_be_visible()
    assert len([turn for turn in site.brain.given[-1] if turn.role == "user"]) == 1  # in place of the first, not after it
    page.get_by_role("button", name="Copy answer").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert "5 dark spots" in page.evaluate("navigator.clipboard.readText()")
    page.get_by_role("button", name="Edit question").click()
    expect(page.locator("#pa-question textarea")).to_have_value("count")
    expect(page.locator(".pa-empty")).to_be_visible()
    expect(page.locator(".pa-current")).to_contain_text("goes with your next question")


GIVEN = """([how, name, data]) => {
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  const given = new DataTransfer();
  given.items.add(new File([bytes], name, { type: "image/png" }));
  const event = how === "paste" ? new ClipboardEvent("paste", { clipboardData: given, bubbles: true })
    : new DragEvent("drop", { dataTransfer: given, bubbles: true });
  document.querySelector("#pa-right").dispatchEvent(event);
}"""


@pytest.mark.parametrize(
    ("how", "name", "shown"), [("paste", "image.png", "pasted-1.png"), ("drop", "field 7.png", "field 7.png")]
)
def test_a_picture_is_pasted_or_dropped_anywhere(page: Any, picture: Path, how: str, name: str, shown: str) -> None:
    page.evaluate(GIVEN, [how, name, base64.b64encode(picture.read_bytes()).decode()])
    expect(page.locator(".pa-current")).to_contain_text(shown)


def test_objects_have_places_a_scale_bar_and_files(page: Any, picture: Path) -> None:
    give(page, picture)
    expect(page.locator(".pa-current")).to_be_visible()
    page.locator("#pa-scale input").fill("0.5")
    page.locator("#pa-scale input").blur()
    ask(page, f"count {'very ' * 200} carefully")
    expect(page.locator(".pa-layers .pa-scale text")).to_have_text("10 µm")
    objects = page.locator(".pa-objects")
    objects.locator("summary").click()
    expect(objects.locator("tbody tr")).to_have_count(5)
    expect(objects.locator("thead")).to_contain_text("x (µm)")
    with page.expect_download() as saved:
        objects.get_by_role("link", name="GeoJSON").click()
    assert saved.value.suggested_filename == "spots_count_dark.geojson"
    features = json.loads(Path(saved.value.path()).read_text())["features"]
    assert len(features) == 5 and features[0]["geometry"]["type"] == "Point"
    with page.expect_download() as saved:
        page.locator(".pa-layers").get_by_role("button", name="Save picture").click()
    assert saved.value.suggested_filename == "spots.png"
    question = page.locator(".pa-person details.pa-long")
    assert question.bounding_box()["height"] < 200  # a long question is folded
    question.locator("summary").click()
    expect(question.locator("p")).to_contain_text("carefully")


def test_what_goes_wrong_is_told_plainly(page: Any, picture: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(picture.read_bytes()[:200])
    give(page, broken)
    alert = page.locator("#pa-alert [role=alert]")
    expect(alert).to_contain_text("This cannot be used")
    expect(alert).to_contain_text("broken.png cannot be decoded")
    expect(alert).to_contain_text("Choose another file")
    assert "Traceback" not in page.content()
    give(page, picture)
    expect(alert).to_have_count(0)
    expect(page.locator(".pa-current")).to_be_visible()
    page.locator("#pa-send").click()
    expect(page.locator("#pa-live [role=alert]")).to_contain_text("No question yet")


def test_a_long_answer_streams_and_can_be_stopped(page: Any, site: Running) -> None:
    ask(page, "wait for it")
    expect(page.locator("#pa-live .pa-words")).to_contain_text("Word 3.")
    page.reload()  # it goes on meanwhile
    expect(page.locator("#pa-live .pa-words")).to_contain_text("Word 5.")
    page.locator("#pa-stop").press("Enter")
    expect(page.locator("#pa-past")).to_contain_text("cancelled before the model had answered")
    expect(page.locator("#pa-send")).to_be_visible()
    assert site.brain.stopped.wait(30)


def test_tools_and_papers_by_hand(page: Any, site: Running, picture: Path) -> None:
    page.get_by_role("tab", name="Tools").click()
    run = page.get_by_role("button", name="Run Count dark")
    run.click()
    result = page.locator("#pa-tool-result")
    expect(result).to_contain_text("No picture yet")
    give(page, picture)
    expect(page.locator(".pa-current")).to_be_visible()
    page.locator("#pa-count_dark-threshold textarea, #pa-count_dark-threshold input").fill("many")
    run.click()
    expect(result).to_contain_text("Threshold takes a number; 'many' is none.")
    page.locator("#pa-count_dark-threshold textarea, #pa-count_dark-threshold input").fill("100")
    lock = site.service.registry._locks["count_dark"]
    with lock:  # as if the tool took long
        run.click()
        expect(result).to_contain_text("Running Count dark …")
        expect(result.locator(".pa-waiting")).to_have_attribute("data-seconds", "3 s")
    expect(result.locator(".pa-layers")).to_be_visible()
    expect(result).to_contain_text("count_dark@1")

    page.get_by_role("tab", name="Papers").click()
    page.locator("#pa-query textarea").fill("Ki67")
    page.keyboard.press("Enter")
    expect(page.locator("#pa-hits .pa-source")).to_have_count(2)  # the retracted one is left out
    page.get_by_role("button", name="Filters").click()
    page.locator("#pa-since textarea, #pa-since input").fill("2016")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("#pa-hits .pa-source")).to_have_count(1)
    expect(page.locator("#pa-hits .pa-title")).to_have_text("Ki67 and trastuzumab")


def test_a_region_of_a_slide_by_keyboard(page: Any, tmp_path: Path) -> None:
    pytest.importorskip("openslide", reason="OpenSlide is not installed")
    give(page, slide(tmp_path / "small.svs"))
    picker = page.locator(".pa-pick")
    expect(picker).to_be_visible()
    region = page.locator("#pa-region textarea, #pa-region input")
    expect(region).to_have_value("128, 0, 768, 768")
    picker.focus()
    for key in ("-", "-", "-", "ArrowRight"):
        page.keyboard.press(key)
    expect(region).to_have_value("413, 187, 393, 393")
    page.get_by_role("button", name="Use this region").click()
    expect(page.locator(".pa-current")).to_contain_text("393 × 393 px · 0.5 µm per px")
    ask(page, "count")
    expect(page.locator(".pa-person")).to_be_visible()
    expect(page.locator(".pa-layers img")).to_have_attribute("alt", "Count dark on small region. spot: 1")


def test_a_region_of_a_picture(page: Any, picture: Path) -> None:
    give(page, picture)
    page.get_by_role("button", name="Choose a region").click()
    region = page.locator("#pa-region textarea, #pa-region input")
    expect(region).to_have_value("24, 24, 48, 48")
    page.reload()
    expect(page.locator(".pa-pick img")).to_be_visible()  # the picker outlives a reload
    expect(region).to_have_value("24, 24, 48, 48")
    region.fill("8, 8, 24, 24")
    page.get_by_role("button", name="Use this region").click()
    expect(page.locator(".pa-current")).to_contain_text("24 × 24 px")
    page.get_by_role("button", name="Close", exact=True).click()
    expect(page.locator(".pa-pick")).to_be_hidden()
    ask(page, "count")
    expect(page.locator(".pa-layers img")).to_have_attribute("alt", "Count dark on spots region. spot: 1")
    expect(page.locator(".pa-person .pa-thumb")).to_have_count(1)  # the region goes, not the picture


def test_an_enlarged_picture_zooms_and_moves(page: Any, picture: Path) -> None:
    give(page, picture)
    expect(page.locator(".pa-current")).to_be_visible()
    ask(page, "count")
    stage = page.locator(".pa-layers .pa-stage")
    page.locator(".pa-layers").get_by_role("button", name="Enlarge").click()
    page.wait_for_function("document.fullscreenElement?.matches('.pa-stage')")
    image = stage.locator("img")
    before = image.bounding_box()
    page.mouse.move(before["x"] + 10, before["y"] + 10)
    page.mouse.wheel(0, -100)
    page.keyboard.press("+")
    page.wait_for_function("getComputedStyle(document.fullscreenElement).getPropertyValue('--pa-zoom') > 1.6")
    assert image.bounding_box()["width"] == pytest.approx(before["width"] * 1.68, rel=0.01)
    assert stage.locator("svg").bounding_box() == pytest.approx(image.bounding_box())  # the marks stay on their objects
    place = image.bounding_box()
    page.keyboard.press("ArrowRight")
    page.mouse.down()
    page.mouse.move(before["x"] + 40, before["y"] + 30)
    page.mouse.up()
    after = image.bounding_box()
    assert (after["x"] - place["x"], after["y"] - place["y"]) == pytest.approx((30 - 80, 20))
    page.keyboard.press("0")
    assert image.bounding_box() == pytest.approx(before)


def test_the_keyboard_alone_is_enough(page: Any) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate(FOCUSED)["name"] == "Skip to the question"
    met = []
    for _ in range(60):
        page.keyboard.press("Tab")
        focused = page.evaluate(FOCUSED)
        if focused is None:
            break  # left the page: no trap
        met.append(focused)
    else:
        pytest.fail(f"the focus never left the page: {met[-5:]}")
    assert [m for m in met if not m["name"]] == []
    assert [m for m in met if not m["seen"]] == []
    names = [m["name"] for m in met]
    order = [
        next(n for n, name in enumerate(names) if wanted in name) for wanted in ("upload", "Count stained", "Ask", "question")
    ]
    assert order == sorted(order), names

    page.locator(".pa-skip").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.type("papers please")
    page.keyboard.press("Enter")
    expect(page.locator(".pa-source").first).to_be_visible()


class TestPhone:
    """A small screen."""

    @pytest.fixture
    def options(self) -> dict[str, Any]:
        return {"viewport": {"width": 360, "height": 740}}

    def test_nothing_scrolls_sideways(self, page: Any, picture: Path) -> None:
        def width() -> int:
            return page.evaluate("document.documentElement.scrollWidth")

        assert width() == 360
        give(page, picture)
        expect(page.locator(".pa-current")).to_be_visible()
        ask(page, "count, and tell what the papers say")
        expect(page.locator(".pa-layers")).to_be_visible()
        assert width() == 360
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        expect(page.get_by_role("note")).to_be_in_viewport(ratio=1)  # always in sight
        for tab in ("Tools", "Papers"):
            page.get_by_role("tab", name=tab).click()
            assert width() == 360


@pytest.mark.parametrize("options", [{"color_scheme": "light"}, {"color_scheme": "dark"}], ids=["light", "dark"])
def test_light_and_dark_are_readable(page: Any, options: dict[str, Any]) -> None:
    ask(page, "papers")
    expect(page.locator(".pa-source").first).to_be_visible()
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(16, 23, 26)") == (options["color_scheme"] == "dark"), ground
    weak = []
    for selector in READ:
        weak += [(selector, *found) for found in page.evaluate(CONTRAST, selector) if found[1] < 4.5]
    assert weak == []
