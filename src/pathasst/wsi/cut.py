"""A slide's tissue as picture files and a list of them."""

from __future__ import annotations

import csv
from pathlib import Path

from pathasst.core.errors import BadInput, BadSettings
from pathasst.core.files import write_atomic
from pathasst.imaging.pictures import encode_jpeg
from pathasst.imaging.slides import Slide
from pathasst.imaging.slides.grid import read_ahead, tiles_of
from pathasst.imaging.slides.tissue import find_tissue
from pathasst.wsi.plans import scale_of
from pathasst.wsi.regions import Regions

COLUMNS = ("file", "x", "y", "width", "height", "um_per_px", "tissue")


def cut_tiles(
    slide: Slide,
    out: Path,
    um_per_px: float,
    size: int,
    overlap: int = 0,
    least_tissue: float = 0.1,
    *,
    regions: Regions | None = None,
    threads: int = 2,
) -> tuple[int, int]:
    """Write `<x>_<y>.jpg` for each tile and `tiles.csv`, places in px of the finest level; how many are there, how many failed.

    Tiles that are there already are kept. Raises BadInput for a slide of unknown scale or without tissue, BadSettings.
    """
    if not 0 <= overlap < size:
        raise BadSettings(f"the overlap ({overlap} px) must be smaller than the tile ({size} px)")
    regions = regions or Regions()
    tissue = find_tissue(slide).within(regions.include, regions.exclude)
    shrink = max(slide.tile_downsample(um_per_px), 1e-6)
    tiles = tiles_of(slide, shrink, size, overlap, tissue, least_tissue)
    if not tiles:
        raise BadInput(f"{slide.name}: no tissue was found to cut.")
    out.mkdir(parents=True, exist_ok=True)
    names = {t.number: f"{round(t.window[0])}_{round(t.window[1])}.jpg" for t in tiles}
    missing = [t for t in tiles if not (out / names[t.number]).is_file()]
    failed = set()
    for tile, region in read_ahead(slide, missing, threads):
        if isinstance(region, BadInput):
            failed.add(tile.number)
        else:
            write_atomic(out / names[tile.number], encode_jpeg(region.image))
    with (out / "tiles.csv").open("w", newline="", encoding="utf-8") as sink:
        writer = csv.writer(sink)
        writer.writerow(COLUMNS)
        for tile in tiles:
            if tile.number not in failed:
                place = [round(v, 2) for v in tile.region]
                writer.writerow([names[tile.number], *place, round(scale_of(slide) * shrink, 5), round(tile.tissue, 4)])
    return len(tiles) - len(failed), len(failed)
