"""Tiles a second of a whole slide, as every run reads them, beside OpenSlide's own speed on the same tiles.

    python benchmarks/slide_tiles.py SLIDE --um-per-px 0.5 --size 512 --threads 2 [--json FILE]

Both read the same tiles, in turns, several times; the best of each counts, since other work only slows down. OpenSlide reads
the level that lies nearest above, unscaled, in as many threads: the limit for whoever reads through it.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import measured
import numpy as np
import openslide

from pathasst.core.errors import BadInput
from pathasst.imaging.slides import open_slide
from pathasst.imaging.slides.grid import SlideTile, read_ahead, tiles_of


def ours(path: Path, tiles: list[SlideTile], threads: int) -> float:
    """Seconds for all tiles as RGB arrays."""
    with open_slide(path) as slide:
        started = time.perf_counter()
        for _, region in read_ahead(slide, tiles, threads, ahead=4 * threads):
            if isinstance(region, BadInput):
                raise region
        return time.perf_counter() - started


def theirs(path: Path, tiles: list[SlideTile], threads: int) -> float:
    """Seconds for OpenSlide to read the same areas from the level nearest above, as RGBA pictures."""
    slide = openslide.OpenSlide(str(path))
    shrink = tiles[0].region[2] / tiles[0].size[0]
    level = slide.get_best_level_for_downsample(shrink + 1e-6)
    factor = slide.level_downsamples[level]

    def read(tile: SlideTile) -> None:
        x, y, width, height = tile.region
        slide.read_region((round(x), round(y)), level, (round(width / factor), round(height / factor)))

    started = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(read, tiles):
            pass
    seconds = time.perf_counter() - started
    slide.close()
    return seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("slide", type=Path)
    parser.add_argument("--um-per-px", type=float, default=0.5)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tiles", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with open_slide(given.slide) as slide:
        every = tiles_of(slide, max(slide.downsample(given.um_per_px), 1.0), given.size)
    step = max(len(every) // given.tiles, 1)
    tiles = [t for t in every[::step] if t.size == (given.size, given.size)][: given.tiles]
    seconds = np.array(
        [[ours(given.slide, tiles, given.threads), theirs(given.slide, tiles, given.threads)] for _ in range(given.rounds)]
    )
    rates = len(tiles) / seconds
    values = {
        "slide": given.slide.name,
        "tiles": len(tiles),
        "size": given.size,
        "um_per_px": given.um_per_px,
        "threads": given.threads,
        "rounds": given.rounds,
        "ours_per_second": round(float(rates[:, 0].max()), 1),
        "openslide_per_second": round(float(rates[:, 1].max()), 1),
        "share_of_openslide": round(float(rates[:, 0].max() / rates[:, 1].max()), 3),
        "share_of_each_round": [round(float(v), 3) for v in rates[:, 0] / rates[:, 1]],
    }
    for name, value in values.items():
        print(f"{name}: {value}")
    measured.save(given.json, values)


if __name__ == "__main__":
    main()
