"""Readers of tiles that `slides_tiles.py` starts, each in the Python that has it: one line in, all tiles read, one line out.

    PYTHON benchmarks/slides_readers.py NAME JOB

Imports nothing of ours but in `pathasst`, as the peers live in environments of their own. JOB: the JSON file that
`slides_tiles.py` writes. A line on standard input asks for a round with so many threads or workers, 0: one after the other, as a
loop does. The slide is opened anew for each round, so that no decoded tile is left from the round before.
"""

from __future__ import annotations

import json
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

Job = dict[str, Any]  # slide; side: px of a tile; um_per_px asked for, finest; level, level_side of a bare read; tiles
Tiles = Iterable[np.ndarray]  # H×W×3 uint8


def openslide_bare(job: Job, workers: int) -> Tiles:
    """OpenSlide alone: its pixels as an array, without conversion or resampling. What no reader on top of it can beat."""
    import openslide

    with openslide.OpenSlide(job["slide"]) as slide:

        def read(tile: dict[str, Any]) -> np.ndarray:
            size = job["level_side"], job["level_side"]
            return np.asarray(slide.read_region((tile["x"], tile["y"]), job["level"], size))

        if not workers:
            yield from map(read, job["tiles"])
            return
        with ThreadPoolExecutor(workers) as pool:
            for start in range(0, len(job["tiles"]), 64):  # so that no more than these are held
                yield from pool.map(read, job["tiles"][start : start + 64])


def pathasst(job: Job, workers: int) -> Tiles:
    """What every tool of a slide reads with."""
    from pathasst.core.errors import BadInput
    from pathasst.imaging.slides import open_slide
    from pathasst.imaging.slides.grid import SlideTile, read_ahead

    tiles = [SlideTile(**tile["own"]) for tile in job["tiles"]]
    with open_slide(job["slide"]) as slide:
        if not workers:
            for tile in tiles:
                yield slide.read(tile.region, downsample=tile.region[2] / tile.size[0]).image
            return
        for _, region in read_ahead(slide, tiles, workers):
            if isinstance(region, BadInput):
                raise region
            yield region.image


def lazyslide(job: Job, workers: int) -> Tiles:
    """The data set that LazySlide embeds tiles from."""
    from wsidata import TileSpec, open_wsi
    from wsidata.io import add_tiles

    wsi = open_wsi(job["slide"], store=None, reader="openslide")
    spec = TileSpec.from_wsidata(wsi, job["side"], mpp=max(job["um_per_px"], job["finest"]), slide_mpp=job["finest"])
    places = np.array([(tile["x"], tile["y"]) for tile in job["tiles"]])
    add_tiles(wsi, "tiles", places, spec, np.zeros(len(places), int))
    yield from (item["image"] for item in _loaded(wsi.ds.tile_images("tiles"), workers))


def trident(job: Job, workers: int) -> Tiles:
    """TRIDENT's patcher, over the data set that it embeds from."""
    from trident.wsi_objects.OpenSlideWSI import OpenSlideWSI
    from trident.wsi_objects.WSIPatcher import WSIPatcher
    from trident.wsi_objects.WSIPatcherDataset import WSIPatcherDataset

    wsi = OpenSlideWSI(job["slide"], lazy_init=False, mpp=job["finest"])
    places = np.array([(tile["x"], tile["y"]) for tile in job["tiles"]])
    scales = {"src_pixel_size": job["finest"], "dst_pixel_size": job["um_per_px"]}
    patcher = WSIPatcher(wsi, job["side"], **scales, custom_coords=places)
    yield from (image for image, _ in _loaded(WSIPatcherDataset(patcher, None), workers))


def tiatoolbox(job: Job, workers: int) -> Tiles:
    """tiatoolbox's `read_rect` at µm per px, as its extractors of patches call it."""
    from tiatoolbox.wsicore.wsireader import WSIReader

    reader, side = WSIReader.open(job["slide"], mpp=(job["finest"], job["finest"])), job["side"]

    class Patches:
        def __len__(self) -> int:
            return len(job["tiles"])

        def __getitem__(self, number: int) -> np.ndarray:
            tile = job["tiles"][number]
            return np.asarray(reader.read_rect((tile["x"], tile["y"]), (side, side), job["um_per_px"], "mpp"))

    yield from _loaded(Patches(), workers)


READERS: dict[str, tuple[str, Callable[[Job, int], Tiles]]] = {
    "OpenSlide alone": ("openslide-python", openslide_bare),
    "pathasst": ("pathasst", pathasst),
    "LazySlide": ("lazyslide", lazyslide),
    "TRIDENT": ("trident", trident),
    "tiatoolbox": ("tiatoolbox", tiatoolbox),
}


def _loaded(data: Any, workers: int) -> Iterator[Any]:
    """The items of a data set, by processes of PyTorch's loader where there are workers."""
    if not workers:
        for number in range(len(data)):
            yield data[number]
        return
    from torch.utils.data import DataLoader

    yield from DataLoader(data, batch_size=None, num_workers=workers)


def version_of(package: str) -> str:
    """The installed version; of a peer that runs from its source, none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "from source"


def processor_seconds() -> float:
    """Of this process and of its children that have ended."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def main() -> None:
    """Answer each line until the input ends."""
    name, job = sys.argv[1], json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    package, reader = READERS[name]
    warnings.simplefilter("ignore")
    out, sys.stdout = sys.stdout, sys.stderr  # what a peer prints is no answer
    print(json.dumps({"version": version_of(package)}), file=out, flush=True)
    for line in sys.stdin:
        wall, used = time.perf_counter(), processor_seconds()
        count, shapes, mean = 0, set(), 0.0
        for image in reader(job, int(line)):
            count += 1
            shapes.add(tuple(image.shape))
            if count <= 20:  # whether the same is read; too few to count
                mean += float(np.asarray(image)[::8, ::8, :3].mean())
        seconds = {"wall": time.perf_counter() - wall, "cpu": processor_seconds() - used}
        print(
            json.dumps({"tiles": count, "shapes": sorted(shapes), "mean": mean / min(count, 20), **seconds}), file=out, flush=True
        )


if __name__ == "__main__":
    main()
