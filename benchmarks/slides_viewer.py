"""A layer of cells over a slide in a real Chromium: time to its first paint, and of each frame while a person zooms and pans.

    python benchmarks/slides_viewer.py --work FOLDER [--cells 500000] [--slide SLIDE] [--json FILE]

The slide is composed (see slides_whole.py); its cells are drawn evenly over the tissue, a third of them positive, as a finished
run. Our server and a headless Chromium run on one machine without a GPU, so both share its cores. "slide and layers": from the
request of the page until all tiles of slide and layers in view are drawn, the server having read nothing before; "again": the
layer of cells switched off and on. A frame is the time between two callbacks of `requestAnimationFrame` during animated zooms and
pans; a screen of 60 Hz gives 16.7 ms at best.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

import measured
import numpy as np
from slides_whole import compose

from pathasst.imaging.slides import open_slide
from pathasst.imaging.slides.tissue import find_tissue
from pathasst.serve.viewer import Shelf
from pathasst.serve.viewer.routes import viewer_app
from pathasst.wsi.run import SUMMARY
from pathasst.wsi.tables import PARQUET

CHROMIUM = "/usr/bin/chromium"
DRAWN = "viewer.world._items.length > 1 && viewer.world._items.every(item => item.getFullyLoaded())"
AGAIN = f"""async () => {{
  const tick = document.querySelector("#side input[type=checkbox]"), wait = (ms) => new Promise((done) => setTimeout(done, ms));
  tick.click();
  await wait(300);
  const start = performance.now();
  tick.click();
  await wait(5);
  while (!({DRAWN})) await wait(5);
  return performance.now() - start;
}}"""
FRAMES = """async (steps) => {
  const times = []; let last = 0, on = true;
  const tick = (now) => { if (last) times.push(now - last); last = now; if (on) requestAnimationFrame(tick); };
  requestAnimationFrame(tick);
  for (let n = 0; n < steps; n++) {
    const by = n % 10 < 7 ? 1.5 : 1 / 2.4, bounds = viewer.viewport.getBounds();
    viewer.viewport.zoomBy(by);
    viewer.viewport.panBy(new OpenSeadragon.Point(bounds.width * 0.2 * (n % 2 ? 1 : -1), 0));
    await new Promise((done) => setTimeout(done, 500));
  }
  on = false;
  return times;
}"""


def write_run(slide: Path, folder: Path, cells: int, seed: int = 0) -> None:
    """A finished run of `ki67_cells` with so many cells on the slide's tissue."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(seed)
    with open_slide(slide) as opened:
        tissue, size, finest = find_tissue(opened), opened.size, opened.um_per_px
    rows, columns = np.nonzero(tissue.mask)
    chosen = rng.integers(len(rows), size=cells)
    side = size[0] / tissue.mask.shape[1], size[1] / tissue.mask.shape[0]
    x = ((columns[chosen] + rng.random(cells)) * side[0]).astype(np.float32)
    y = ((rows[chosen] + rng.random(cells)) * side[1]).astype(np.float32)
    labels = pa.array(np.where(rng.random(cells) < 1 / 3, "positive", "negative"))
    score = np.ones(cells, np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"x": x, "y": y, "label": labels, "score": score}), folder / PARQUET)
    summary = {
        "slide": slide.name, "size_px": list(size), "um_per_px": finest, "tool": "ki67_cells", "version": "drawn",
        "sentences": [], "warnings": [], "notice": "", "hot_spots": [], "objects": cells,
    }  # fmt: skip
    (folder / SUMMARY).write_text(json.dumps(summary), encoding="utf-8")


def serve(shelf: Shelf) -> str:
    """The viewer's address; it runs until this process ends."""
    import uvicorn

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(viewer_app(shelf), host="127.0.0.1", port=port, log_level="warning"))
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.02)
    return f"http://127.0.0.1:{port}"


def spread(times: list[float]) -> dict[str, float]:
    """Of times in ms."""
    return {"median": float(np.median(times)), "95 %": float(np.quantile(times, 0.95)), "longest": max(times), "n": len(times)}


def main() -> None:
    """Measure and print."""
    from playwright.sync_api import sync_playwright

    parser = measured.command_line(__doc__)
    parser.add_argument("--cells", type=int, default=500_000)
    parser.add_argument("--side", type=int, default=20_000)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--slide", type=Path, help="a slide of your own")
    parser.add_argument("--work", type=Path, required=True)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    slide = options.slide or options.work / f"composed-{options.side}.tif"
    if not slide.is_file():
        compose(Path(os.environ["PATHASST_DATA"]) / "slides" / "cmu-1-small-region.svs", slide, options.side, 0.12)
    values: dict[str, Any] = {"cells": options.cells}
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        for name, cells in (("with the cells", options.cells), ("1,000 cells", 1_000)):
            run = options.work / f"run-{cells}"
            write_run(slide, run, cells)
            shelf = Shelf()
            key = shelf.add(slide, runs=[run]).key
            site = serve(shelf)
            page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
            page.set_default_timeout(120_000)
            started = time.perf_counter()
            page.goto(f"{site}/slide/{key}")
            page.wait_for_function("window.loaded > 0", polling=5)
            first = time.perf_counter() - started
            page.wait_for_function(DRAWN, polling=5)
            whole = time.perf_counter() - started
            again = page.evaluate(AGAIN)
            frames = page.evaluate(FRAMES, options.steps)
            page.wait_for_function(DRAWN, polling=5)
            values[name] = {
                "first tile ms": 1000 * first, "slide and layers ms": 1000 * whole, "again ms": again,
                **{f"frame, {k}": v for k, v in spread(frames).items()}, "failed requests": page.evaluate("window.failed || 0"),
            }  # fmt: skip
            print(name, {k: round(v, 1) for k, v in values[name].items()}, flush=True)
            page.close()
        browser.close()
    measured.save(options.json, values)


if __name__ == "__main__":
    main()
