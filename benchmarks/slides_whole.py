"""A tool over a whole composed slide: peak memory of all its processes, killed and resumed, each file compared byte by byte.

    python benchmarks/slides_whole.py --side 40000 --share 0.12 --kills 2 [--again] [--work FOLDER] [--json FILE]

The slide is composed of mirrored blocks of a real H&E slide (CMU-1-Small-Region, 0.499 µm/px, CC0) in the outlines of a few
biopsies on glass, and written by libvips as a tiled JPEG pyramid. `pathasst slide run` goes over it as a child that is killed
(SIGKILL) `--kills` times and started again; its memory is the sum over it and its children, ten times a second, and the kernel's
own peak of each (VmHWM). With `--again` an uninterrupted run follows and every file of the result is compared; on a slide of
40,000² px that doubles hours, so it is meant for a smaller `--side`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import measured
import numpy as np

from pathasst.wsi.run import STAGE, SlideRun

BLOCK = 1024
GLASS = 242
FILES = (
    "objects.geojson", "cells.csv", "cells.parquet", "summary.json", "tissue.geojson", "density.png", "overview.jpg",
    "report.html",
)  # fmt: skip


def compose(source: Path, file: Path, side: int, share: float, seed: int = 0) -> None:
    """Write a slide of `side`² px at 0.5 µm/px, about `share` of it tissue."""
    import cv2
    import openslide
    import pyvips

    rng = np.random.default_rng(seed)
    with openslide.OpenSlide(str(source)) as slide:
        pixels = np.asarray(slide.read_region((86, 458), 0, (2 * BLOCK, 2 * BLOCK)).convert("RGB"))
    blocks = [pixels[y : y + BLOCK, x : x + BLOCK] for y in (0, BLOCK) for x in (0, BLOCK)]
    blocks = [b[::v, ::h] for b in blocks for v in (1, -1) for h in (1, -1)]
    images, across = [pyvips.Image.new_from_array(np.ascontiguousarray(b)) for b in blocks], -(-side // BLOCK)
    places = rng.integers(len(images), size=across**2)
    joined = pyvips.Image.arrayjoin([images[i] for i in places], across=across).crop(0, 0, side, side)
    small = np.zeros((side // 40, side // 40), np.uint8)
    while small.mean() < share * 255:
        x, y = (int(v) for v in rng.uniform(0.1, 0.9, 2) * len(small))
        axes = int(rng.uniform(0.08, 0.22) * len(small)), int(rng.uniform(0.02, 0.05) * len(small))
        cv2.ellipse(small, (x, y), axes, float(rng.uniform(0, 180)), 0, 360, 255, -1)
    mask = pyvips.Image.new_from_array(small).resize(side / len(small), kernel="linear").crop(0, 0, side, side)
    image = (mask > 127).ifthenelse(joined, [GLASS] * 3).copy(interpretation="srgb")
    image.tiffsave(
        str(file), tile=True, tile_width=256, tile_height=256, pyramid=True, compression="jpeg", Q=85, bigtiff=True,
        resunit="cm", xres=2000, yres=2000,
    )  # fmt: skip


def tree(pid: int) -> list[int]:
    """A process and all that it started."""
    pids = [pid]
    for one in pids:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                pids += map(int, task.read_text().split())
            except OSError:
                continue
    return pids


def memory(pid: int) -> tuple[int, int]:
    """kB that a process tree holds now, and the sum of its processes' own peaks."""
    now = peak = 0
    for one in tree(pid):
        try:
            status = dict(line.split(":", 1) for line in Path(f"/proc/{one}/status").read_text().splitlines())
        except OSError:
            continue
        now += int(status.get("VmRSS", "0").split()[0])
        peak += int(status.get("VmHWM", "0").split()[0])
    return now, peak


def run(tool: str, slide: Path, out: Path, parts: int | None, include: Path | None = None) -> dict[str, Any]:
    """One start of the command; killed once it has written `parts` more parts of its stage."""
    command = [sys.executable, "-m", "pathasst.cli.main", "slide", "run", tool, str(slide), "--out", str(out)]
    command += ["--include", str(include)] if include else []
    stage, started, highest, peaks = out / STAGE, time.monotonic(), 0, 0
    before = len(list(stage.glob("*.json")))
    with (out.parent / f"{out.name}.log").open("ab") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            while child.poll() is None:
                now, peak = memory(child.pid)
                highest, peaks = max(highest, now), max(peaks, peak)
                done = len(list(stage.glob("[0-9]*.json")))
                if parts is not None and done >= before + parts:
                    child.send_signal(signal.SIGKILL)
                time.sleep(0.1)
        finally:
            child.kill()
            child.wait()
    return {
        "ended": "killed" if child.returncode == -signal.SIGKILL else f"exit {child.returncode}",
        "parts": len(list(stage.glob("[0-9]*.json"))),
        "seconds": round(time.monotonic() - started),
        "peak_mb": round(highest * 1024 / 1e6),
        "peak_of_processes_mb": round(peaks * 1024 / 1e6),
    }


def main() -> None:
    """Measure and print."""
    parser = measured.command_line(__doc__)
    parser.add_argument("--tool", default="he_nuclei")
    parser.add_argument("--side", type=int, default=40_000)
    parser.add_argument("--share", type=float, default=0.12)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--parts", type=int, default=5, help="parts of 16 tiles that each killed start may finish")
    parser.add_argument("--include", type=Path, help="GeoJSON of areas that alone are looked at, where the whole takes too long")
    parser.add_argument("--again", action="store_true", help="run once more without a kill and compare")
    parser.add_argument("--work", type=Path, required=True, help="folder of the slide and the results")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    slide = options.work / f"composed-{options.side}.tif"
    if not slide.is_file():
        source = Path(os.environ["PATHASST_DATA"]) / "slides" / "cmu-1-small-region.svs"
        compose(source, slide, options.side, options.share)
    out = options.work / f"{options.tool}-{options.side}"
    starts = [run(options.tool, slide, out, options.parts, options.include) for _ in range(options.kills)]
    starts.append(run(options.tool, slide, out, None, options.include))
    summary = SlideRun(out).summary
    values: dict[str, Any] = {
        "tool": options.tool,
        "slide_px": summary["size_px"],
        "um_per_px": round(summary["um_per_px"], 4),
        "file_mb": round(slide.stat().st_size / 1e6),
        "tissue_looked_at_mm2": summary["area_mm2"],
        "tiles": summary["tiles"]["done"],
        "objects": summary["objects"],
        "starts": starts,
        "peak_mb": max(s["peak_mb"] for s in starts),
        "peak_of_processes_mb": max(s["peak_of_processes_mb"] for s in starts),
    }
    if options.again:
        whole = options.work / f"{options.tool}-{options.side}-whole"
        values["uninterrupted"] = run(options.tool, slide, whole, None, options.include)
        values["files_that_differ"] = [name for name in FILES if (out / name).read_bytes() != (whole / name).read_bytes()]
    for name, value in values.items():
        print(f"{name}: {value}", flush=True)
    measured.save(options.json, values)


if __name__ == "__main__":
    main()
