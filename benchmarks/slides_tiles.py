"""Tiles per second beside LazySlide, TRIDENT and tiatoolbox, and beside OpenSlide's own reading as the limit, in one run.

    python benchmarks/slides_tiles.py --work FOLDER [--peer LazySlide=PYTHON] [--peer TRIDENT=PYTHON] [--peer tiatoolbox=PYTHON]

A peer is an environment of its own: `pip install lazyslide`, `pip install tiatoolbox`; TRIDENT from its repository, on the
PYTHONPATH of an environment that has what it imports. Every reader gets the same tissue tiles of the same slide at the same
µm per px. Readers take turns, round by round, in an order drawn anew; a round opens the slide anew. The numbers are medians over
the rounds of a reader's time beside OpenSlide's in the same round: processor seconds, which a busy machine disturbs little, and
seconds by the clock. "as a loop": one tile after the other; "2 ahead": two threads (OpenSlide, we) or two processes (the peers'
loader), as a network is fed.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import measured
from slides_readers import READERS
from slides_whole import compose

from pathasst.imaging.slides import open_slide
from pathasst.imaging.slides.grid import tiles_of
from pathasst.imaging.slides.tissue import find_tissue

LIMIT, OURS = "OpenSlide alone", "pathasst"
WAYS = {"as a loop": 0, "2 ahead": 2}


def job_of(path: Path, um_per_px: float, side: int, most: int) -> dict[str, Any]:
    """The tiles of a slide for every reader: ours exactly as they are, for others their corners on whole px."""
    with open_slide(path) as slide:
        finest = slide.um_per_px or 0.0
        shrink = max(slide.tile_downsample(um_per_px), 1.0)
        tiles = tiles_of(slide, shrink, side, 0, find_tissue(slide), 0.1)[:most]
        level = slide.level_for(shrink)
        level_side = round(side * shrink / slide.levels[level].downsample[0])
        limits = [slide.size[n] - side * shrink for n in (0, 1)]
    places = [[max(min(round(t.window[n]), int(limits[n])), 0) for n in (0, 1)] for t in tiles]
    rows = [{"x": x, "y": y, "own": asdict(t)} for (x, y), t in zip(places, tiles, strict=True)]
    about = {"slide": str(path), "side": side, "um_per_px": finest * shrink, "finest": finest}
    return {**about, "level": level, "level_side": level_side, "tiles": rows}


@contextmanager
def reader(name: str, python: str, job: Path) -> Iterator[subprocess.Popen[str]]:
    """A child that reads all tiles for each line that it is sent."""
    command = [python, str(Path(__file__).with_name("slides_readers.py")), name, str(job)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            yield child
        finally:
            child.kill()


def answer(child: subprocess.Popen[str]) -> dict[str, Any]:
    """Its next line. Raises SystemExit when it ended instead."""
    assert child.stdout is not None
    line = child.stdout.readline()
    if not line:
        raise SystemExit(f"{' '.join(map(str, child.args))} ended with {child.wait()}")  # type: ignore[arg-type]
    found: dict[str, Any] = json.loads(line)
    return found


def measure(job: Path, pythons: dict[str, str], rounds: int, most: int) -> dict[str, Any]:
    """Way → reader → tiles a second, and its share of the limit's speed in the same rounds."""
    runs: dict[str, dict[str, list[dict[str, Any]]]] = {way: {name: [] for name in pythons} for way in WAYS}
    order = [(way, name) for way in WAYS for name in pythons]
    with ExitStack() as stack:
        children = {name: stack.enter_context(reader(name, python, job)) for name, python in pythons.items()}
        versions = {name: answer(child)["version"] for name, child in children.items()}
        for turn in range(rounds + 1):
            random.Random(turn).shuffle(order)
            for way, name in order:
                child = children[name]
                assert child.stdin is not None
                child.stdin.write(f"{WAYS[way]}\n")
                child.stdin.flush()
                result = answer(child)
                if turn:  # the first round brings the file into memory and the libraries in
                    runs[way][name].append(result)
    table: dict[str, Any] = {}
    for way, by_name in runs.items():
        limit = by_name[LIMIT]
        table[way] = {
            f"{name} {versions[name]}".removesuffix(" 0.1.0"): {
                "tiles": own[0]["tiles"],
                "tiles a CPU second": median(r["tiles"] / r["cpu"] for r in own),
                "of the limit, CPU": median(a["cpu"] / b["cpu"] for a, b in zip(limit, own, strict=True)),
                "tiles a second": median(r["tiles"] / r["wall"] for r in own),
                "of the limit, clock": median(a["wall"] / b["wall"] for a, b in zip(limit, own, strict=True)),
                "mean colour": round(own[0]["mean"], 2),
            }
            for name, own in by_name.items()
        }
    return table


def main() -> None:
    """Measure and print."""
    parser = measured.command_line(__doc__)
    parser.add_argument("--peer", action="append", default=[], help="NAME=PYTHON, NAME one of LazySlide, TRIDENT, tiatoolbox")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--most", type=int, default=400, help="tiles of a slide that are read")
    parser.add_argument("--side", type=int, default=512, help="px of a tile")
    parser.add_argument("--work", type=Path, required=True, help="folder of the composed slide and the lists of tiles")
    parser.add_argument("--case", action="append", default=[], help="only these: SLIDE@UM_PER_PX, such as composed@0.5")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    slides = Path(os.environ["PATHASST_DATA"]) / "slides"
    composed = options.work / "composed-20000.tif"
    if not composed.is_file():
        compose(slides / "cmu-1-small-region.svs", composed, 20_000, 0.12)
    paths = {"composed": composed, "svs": slides / "cmu-1-small-region.svs", "atlas": slides / "duodenum-tubular-adenoma__HE.tif"}
    pythons = {LIMIT: sys.executable, OURS: sys.executable}
    for text in options.peer:
        name, _, python = text.partition("=")
        if name not in READERS or name in pythons or not python:
            parser.error(f"--peer {text}: give NAME=PYTHON, NAME one of {', '.join(set(READERS) - set(pythons))}")
        pythons[name] = python
    values: dict[str, Any] = {}
    for case in options.case or ["composed@0.5", "composed@1.0", "composed@0.7", "svs@0.5", "atlas@2.15"]:
        name, _, scale = case.partition("@")
        job = options.work / f"{name}-{scale}.json"
        job.write_text(json.dumps(job_of(paths[name], float(scale), options.side, options.most)), encoding="utf-8")
        values[case] = measure(job, pythons, options.rounds, options.most)
        for way, rows in values[case].items():
            print(f"{case}, {way}")
            for reader_name, row in rows.items():
                print(f"  {reader_name:32s}" + "  ".join(f"{k} {v:.4g}" for k, v in row.items()), flush=True)
    measured.save(options.json, values)


if __name__ == "__main__":
    main()
