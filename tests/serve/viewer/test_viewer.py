"""The slide viewer: tiles, layers, and the page in a real Chromium."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("openslide", reason="the extra slides is not installed")

from pathasst.core.errors import BadInput, MissingPackage
from pathasst.imaging.slides import open_slide
from pathasst.serve.viewer import Shelf, openseadragon
from pathasst.serve.viewer.deepzoom import TILE, TileCache, deepest, read_tile
from pathasst.serve.viewer.layers import RunLayers
from pathasst.wsi.run import run_slide

CHROMIUM = "/usr/bin/chromium"
WAIT = int(os.environ.get("PATHASST_BROWSER_WAIT", "60000"))


def _spots() -> ModuleType:
    """The slide of the tests of whole slides."""
    if "spots" not in sys.modules:
        spec = importlib.util.spec_from_file_location("spots", Path(__file__).parents[2] / "wsi" / "spots.py")
        assert spec and spec.loader
        sys.modules["spots"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["spots"])
    return sys.modules["spots"]


@pytest.fixture(scope="module")
def slide_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(_spots().slide_file(tmp_path_factory.mktemp("viewer")))


@pytest.fixture(scope="module")
def run_folder(slide_file: Path) -> Path:
    spots = _spots()
    with open_slide(slide_file) as slide:
        run_slide(slide, spots.Spots(), slide_file.parent / "run", spots.settings(), progress=False)
    return slide_file.parent / "run"


@pytest.fixture(scope="module")
def shelf(slide_file: Path, run_folder: Path) -> Shelf:
    shelf = Shelf()
    assert shelf.add_folder(slide_file.parent) == 1
    return shelf


@pytest.fixture(scope="module")
def site(shelf: Shelf) -> Iterator[str]:
    import uvicorn

    from pathasst.serve.viewer.routes import viewer_app

    try:
        app = viewer_app(shelf)
    except MissingPackage as error:
        pytest.skip(str(error))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


def test_tiles_of_every_level_make_up_the_slide(slide_file: Path) -> None:
    with open_slide(slide_file) as slide:
        last = deepest(slide.size)
        assert 2**last >= max(slide.size) > 2 ** (last - 1)
        assert read_tile(slide, 0, 0, 0).shape == (1, 1, 3)
        edge = read_tile(slide, last, 5, 5)
        assert edge.shape == (3000 - 5 * TILE, 3000 - 5 * TILE, 3)
        whole = slide.read((TILE, TILE, TILE, TILE)).image
        assert np.array_equal(read_tile(slide, last, 1, 1), whole)
        for place in ((last, 6, 0), (last + 1, 0, 0), (last, -1, 0), (-1, 0, 0)):
            with pytest.raises(BadInput):
                read_tile(slide, *place)


def test_the_cache_keeps_to_its_limit_and_makes_a_tile_once() -> None:
    cache, made = TileCache(limit=100), []

    def tile(key: int) -> bytes:
        made.append(key)
        return bytes(30)

    for key in (1, 2, 1, 3, 1, 4, 1, 2):
        cache.get(key, lambda key=key: tile(key))
    assert made == [1, 2, 3, 4, 2]


def test_layers_lie_over_what_was_found(run_folder: Path) -> None:
    layers = RunLayers(run_folder)
    middles, brown = _spots().places()
    x, y = middles[brown][0]
    region = (x - 100, y - 100, 200, 200)
    cells = layers.draw("cells", region, (400, 400))
    rows, columns = np.nonzero(cells[180:220, 180:220, 3])
    assert abs(rows.mean() - 20) < 2 and abs(columns.mean() - 20) < 2
    names = [c["name"] for c in layers.info()["classes"]]
    only = layers.draw("cells", region, (400, 400), frozenset({names.index("negative")}))
    assert not only[185:215, 185:215, 3].any()
    far = layers.draw("cells", (0, 0, 3000, 3000), (94, 94))
    assert 200 < (far[..., 3] > 0).sum() < 2000
    tissue = layers.draw("tissue", (200, 1000, 200, 200), (200, 200))
    assert abs(np.nonzero(tissue[100, :, 3])[0].mean() - 100) < 12
    heat = layers.draw("density", (0, 0, 3000, 3000), (300, 300))
    assert heat[40:250, 30:120, 3].mean() > heat[40:250, 130:270, 3].mean()
    spot = layers.run.summary["hot_spots"][0]
    r = spot["radius_px"]
    ring = layers.draw("spots", (spot["x"] - 2 * r, spot["y"] - 2 * r, 4 * r, 4 * r), (400, 400))
    assert ring[200, 95:105, 3].any() and not ring[200, 140:150, 3].any()


def test_an_outline_counts_what_lies_inside(run_folder: Path) -> None:
    layers, spots = RunLayers(run_folder), _spots()
    middles, brown = spots.places()
    corners = np.array([[300, 400], [1500, 400], [300, 2000]], float)
    inside = (middles[:, 0] >= 300) & (middles[:, 1] >= 400) & ((middles[:, 0] - 300) / 1200 + (middles[:, 1] - 400) / 1600 < 1)
    found = layers.inside(corners)
    assert found["cells"] == inside.sum() and found["counts"]["positive"] == (inside & brown).sum()
    assert found["mm2"] == pytest.approx(1200 * 1600 / 2 * 0.25e-6)
    assert found["low"] < found["percent"] < found["high"] and f"{found['percent']} % positive" in found["words"]
    assert layers.inside(np.array([[0, 0], [50, 0], [0, 50]], float))["cells"] == 0
    crossed = layers.inside(np.array([[300, 400], [2700, 2500], [2700, 400], [300, 2500]], float))  # an hourglass
    assert 0 < crossed["cells"] < 400
    with pytest.raises(BadInput, match="no area"):
        layers.inside(np.array([[0, 0], [5, 5], [9, 9]], float))


def test_half_a_million_cells_are_drawn_at_once(tmp_path: Path, run_folder: Path) -> None:
    import json

    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    n, side = 500_000, 40_000
    table = {"x": rng.uniform(0, side, n).astype(np.float32), "y": rng.uniform(0, side, n).astype(np.float32)}
    labels = pa.array(np.where(rng.random(n) < 0.3, "positive", "negative"))
    pq.write_table(pa.table({**table, "label": labels}), tmp_path / "cells.parquet")
    summary = json.loads((run_folder / "summary.json").read_text(encoding="utf-8"))
    summary |= {"size_px": [side, side], "hot_spots": []}
    (tmp_path / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    layers = RunLayers(tmp_path)
    assert (layers.draw("cells", (0, 0, side, side), (512, 512))[..., 3] > 0).mean() > 0.5
    x, y = float(table["x"][7]), float(table["y"][7])
    assert layers.draw("cells", (x - 50, y - 50, 100, 100), (400, 400))[180:220, 180:220, 3].any()


def test_addresses_give_tiles_and_nothing_else(site: str, shelf: Shelf) -> None:
    import httpx

    (key,) = shelf.entries
    info = httpx.get(f"{site}/slide/{key}/info").json()
    assert (info["width"], info["height"], info["um_per_px"]) == (3000, 3000, 0.5)
    assert info["runs"][0]["tool"] == "ki67_cells" and len(info["runs"][0]["classes"]) == 2
    tile = httpx.get(f"{site}/slide-tiles/{key}/image_files/{deepest((3000, 3000))}/1_1.jpg")
    assert Image.open(io.BytesIO(tile.content)).size == (TILE, TILE) and "max-age" in tile.headers["cache-control"]
    layer = httpx.get(f"{site}/slide-tiles/{key}/run/0/cells/0-1/{info['runs'][0]['stamp']}_files/9/0_0.png")
    assert Image.open(io.BytesIO(layer.content)).mode == "RGBA"
    part = httpx.get(f"{site}/slide-tiles/{key}/region.png", params={"x": 100, "y": 100, "width": 2500, "height": 2000})
    picture = Image.open(io.BytesIO(part.content))
    cut = {"x": 100, "y": 100, "width": 400, "height": 400, "corners": "100,100,300,100,100,300"}
    outline = Image.open(io.BytesIO(httpx.get(f"{site}/slide-tiles/{key}/region.png", params=cut).content))
    assert outline.size == (400, 400) and outline.getpixel((390, 390)) == (255, 255, 255) != outline.getpixel((20, 20))
    counted = httpx.get(f"{site}/slide-tiles/{key}/run/0/inside", params={"corners": "0,0,3000,0,3000,3000,0,3000"}).json()
    assert counted["cells"] == 400
    assert max(picture.size) == 1024 and float(part.headers["x-um-per-px"]) == pytest.approx(0.5 * 2500 / 1024, rel=1e-3)
    for path in (
        "/slide/0123456789ab", "/slide/0123456789ab/info", f"/slide-tiles/{key}/image_files/40/0_0.jpg",
        f"/slide-tiles/{key}/image_files/9/a_b.jpg", f"/slide-tiles/{key}/run/7/cells/all/0_files/9/0_0.png",
        f"/slide-tiles/{key}/run/0/other/all/0_files/9/0_0.png", "/slide/viewer.py", "/slide-tiles/openseadragon/../../viewer.py",
        f"/slide-tiles/{key}/region.png?x=-5&y=0&width=10&height=10", f"/slide-tiles/{key}/run/0/inside?corners=1,2,3",
        f"/slide-tiles/{key}/run/0/inside?corners=1,2,3,nan,5,6", f"/slide-tiles/{key}/run/0/inside?corners=1,1,2,2,3,3",
    ):  # fmt: skip
        assert httpx.get(site + path).status_code == 404, path
    assert httpx.get(f"{site}/slide/", headers={"Host": "elsewhere.example"}).status_code == 400


def test_another_archive_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATHASST_OPENSEADRAGON", str(tmp_path / "place"))
    (tmp_path / "other.tgz").write_bytes(b"no")
    with pytest.raises(BadInput, match="sha256"):
        openseadragon.fetch(tmp_path / "other.tgz")
    with pytest.raises(MissingPackage, match="slide parts"):
        openseadragon.folder()


@pytest.mark.browser
@pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="Chromium is not installed: apt-get install chromium")
@pytest.mark.parametrize("viewport", [{"width": 1280, "height": 800}, {"width": 390, "height": 780}])
def test_in_the_browser(site: str, shelf: Shelf, viewport: dict[str, int]) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    (key,) = shelf.entries
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_context(viewport=viewport).new_page()
        page.set_default_timeout(WAIT)
        faults: list[str] = []
        page.on("pageerror", lambda e: faults.append(str(e)))
        page.on(
            "response", lambda r: faults.append(f"{r.status} {r.url}") if r.status >= 400 and "favicon" not in r.url else None
        )
        page.on("request", lambda r: None if r.url.startswith((site, "data:", "blob:")) else faults.append(r.url))
        page.goto(f"{site}/slide/{key}")
        page.wait_for_function("window.loaded > 0")
        assert "µm" in page.locator("#words").inner_text() or "mm" in page.locator("#words").inner_text()
        assert page.locator("#side").get_by_text("Ki67 index").count() >= 1
        _steps(page, 60 if viewport["width"] > 500 else 8)
        _box_and_ruler(page)
        _outline_and_point(page)
        page.get_by_role("button", name="Show hot spot 1").click()
        page.locator("#side input[type=checkbox]").first.click()
        page.locator("body").press("h")
        page.locator("#beside").select_option("")
        assert page.evaluate("window.failed || 0") == 0
        assert not faults
        browser.close()


def _steps(page: Any, count: int) -> None:
    """Zoom and turn, waiting for the tiles of each step."""
    for step in range(count):
        zoom = 1.4 if step % 20 < 12 else 1 / 1.9
        page.evaluate(
            f"viewer.viewport.zoomBy({zoom}, viewer.world.getItemAt(0).imageToViewportCoordinates(900, 1200), true);"
            f"if ({step} % 15 === 0) viewer.viewport.setRotation({step} * 6, true)"
        )
        page.wait_for_function("viewer.world.getItemAt(0).getFullyLoaded()")


def _box_and_ruler(page: Any) -> None:
    page.evaluate("viewer.viewport.setRotation(0, true); viewer.viewport.goHome(true)")
    area = page.locator("#view").bounding_box()
    x, y = area["x"] + area["width"] / 2, area["y"] + area["height"] / 2
    for key, found in (("m", "svg.rule text"), ("b", "text=Save as picture")):
        page.locator("body").press(key)
        page.mouse.move(x - 40, y - 40)
        page.mouse.down()
        page.mouse.move(x, y, steps=4)
        page.mouse.move(x + 40, y + 40, steps=4)
        page.mouse.up()
        page.locator("body").press("Escape")
        page.wait_for_selector(found)


def _outline_and_point(page: Any) -> None:
    area = page.locator("#view").bounding_box()
    x, y = area["x"] + area["width"] / 2, area["y"] + area["height"] / 2
    page.locator("body").press("p")
    for dx, dy in ((-50, -50), (50, -50), (0, 50)):
        page.mouse.click(x + dx, y + dy)
        page.wait_for_timeout(350)  # nearer clicks are a double click
    page.locator("body").press("Enter")
    page.get_by_role("heading", name="Outline").wait_for()
    assert page.locator("svg.rule polygon").count() == 1
    page.locator("#inside p").first.wait_for()
    assert "cells" in page.locator("#inside").inner_text()
    link = page.get_by_text("Save as GeoJSON").get_attribute("href")
    ring = json.loads(unquote(link.partition(",")[2]))["features"][0]["geometry"]["coordinates"][0]
    assert len(ring) == 4 and ring[0] == ring[-1]
    page.locator("body").press("o")
    page.mouse.click(x, y)
    page.get_by_role("heading", name="Box").wait_for()
    page.locator("body").press("Escape")


def test_the_server_shows_slides_beside_its_page_and_asks_for_keys_there_too(shelf: Shelf, tmp_path: Path) -> None:
    from fastapi.testclient import TestClient
    from server_parts import RuleBrain, settings

    from pathasst.serve.api import create_app
    from pathasst.serve.service import Service
    from pathasst.tools.protocol import Registry

    try:
        openseadragon.folder()
    except MissingPackage as error:
        pytest.skip(str(error))
    (key,) = shelf.entries
    question = {
        "question": "What is here?",
        "x": 400,
        "y": 500,
        "width": 300,
        "height": 200,
        "corners": "400,500,700,500,400,700",
    }
    for keys_required, expected in ((False, 200), (True, 401)):
        brain = RuleBrain()
        service = Service(settings(tmp_path / str(keys_required), keys_required=keys_required), brain=brain, registry=Registry())
        app = create_app(service=service, page=False, slides=shelf)
        with TestClient(app, base_url="http://localhost") as client:
            assert client.get(f"/slide/{key}/info").status_code == expected
            tiles = [client.get(f"/slide-tiles/{key}/image_files/9/0_0.jpg").status_code for _ in range(130)]
            assert set(tiles) == {expected}
            assert client.post(f"/slide/{key}/ask", json=question).status_code == expected
            if keys_required:
                _, secret = app.state.logins.keys.add("somebody")
                client.post("/login", data={"key": secret}, follow_redirects=False)
            info = client.get(f"/slide/{key}/info")
            assert info.json()["asks"] is True
            assert "frame-ancestors 'none'" in client.get(f"/slide/{key}").headers["content-security-policy"]
            reply = client.post(f"/slide/{key}/ask", json=question).json()["answer"]
            assert "Answered by rules@1" in reply
            (picture,) = brain.images[-1]
            with Image.open(io.BytesIO(picture)) as region:
                assert region.size == (300, 200) and region.getpixel((290, 190)) == (255, 255, 255) != region.getpixel((5, 5))
            outside = client.post(f"/slide/{key}/ask", json={**question, "x": 2900})
            assert outside.status_code == 404 and "does not lie within" in outside.text
            elsewhere = {"origin": "http://elsewhere.example"}
            assert client.post(f"/slide/{key}/ask", json=question, headers=elsewhere).status_code == 403
