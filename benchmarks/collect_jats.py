"""JATS parsing, side by side on the same files: bare lxml (the floor), pubmed_parser (captions alone), pathasst (all fields).

    PATHASST_DATA=<samples> python benchmarks/collect_jats.py [--rounds 7]

Every parser reads the same unpacked files, in turn within each round; the table gives the median of the rounds (CPU seconds
for one process, wall seconds for two). Then every figure that one finds and another loses is listed.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pubmed_parser
from lxml import etree
from measured import command_line, save

from pathasst.collect.jats import parse
from pathasst.core.statistics import Interval


def _floor(path: str) -> int:
    etree.parse(path)
    return 0


def _theirs(path: str) -> int:
    with contextlib.redirect_stdout(io.StringIO()):
        return len(pubmed_parser.parse_pubmed_caption(path) or [])


def _ours(path: str) -> int:
    return len(parse(Path(path).read_bytes(), path)[1])


def _tolerant(work: Callable[[str], int]) -> Callable[[str], int]:
    def run(path: str) -> int:
        try:
            return work(path)
        except Exception:  # noqa: BLE001 - a peer may raise anything; its errors are counted elsewhere
            return 0

    return run


def _ours_chunk(paths: list[str]) -> int:
    return sum(map(_ours, paths))


def _one_process(work: Callable[[str], int], paths: list[str]) -> float:
    start = time.process_time()
    for path in paths:
        work(path)
    return time.process_time() - start


def _wall(pool: ProcessPoolExecutor, paths: list[str], workers: int) -> float:
    """Seconds for `workers` chunks of equal bytes, each in a process of its own."""
    chunks: list[list[str]] = [[] for _ in range(workers)]
    for path in sorted(paths, key=os.path.getsize, reverse=True):
        min(chunks, key=lambda c: sum(map(os.path.getsize, c))).append(path)
    start = time.perf_counter()
    list(pool.map(_ours_chunk, chunks))
    return time.perf_counter() - start


def _losses(paths: list[str]) -> dict[str, int]:
    errors, empty, lost_by_them, lost_by_us, poorer = [], 0, [], [], 0
    for path in paths:
        name = Path(path).name
        figures = parse(Path(path).read_bytes(), name)[1]
        mine = {f.figure_id.split("/")[-1].split("#")[0]: f for f in figures if not f.part}
        bare = [f.get("id") for f in etree.parse(path).iter("fig")]
        lost_by_us += [f"{name} {i}" for i in bare if i and i not in mine]
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                found = pubmed_parser.parse_pubmed_caption(path) or []
        except Exception as error:  # noqa: BLE001
            errors.append(f"{name} ({len(mine)} figures): {type(error).__name__} {error}")
            found = []
        empty += not found
        lost_by_us += [f"{name} {f['fig_id']}" for f in found if f["fig_id"] not in mine]
        known = {f["fig_id"]: f["fig_caption"] or "" for f in found}
        lost_by_them += [f"{name} {i}" for i in mine if i not in known]
        poorer += sum(
            i in mine and len("".join(c.split())) < 0.98 * len("".join(mine[i].caption.split())) for i, c in known.items()
        )
    print(f"\npubmed_parser: {len(errors)} errors, {empty} files without any figure (the errors among them)")
    print(*(f"  {e}" for e in errors), sep="\n")
    print(f"figures that pubmed_parser loses and pathasst finds: {len(lost_by_them)}")
    print(*(f"  {x}" for x in lost_by_them), sep="\n")
    print(f"captions of pubmed_parser that are more than 2 % shorter (it reads only two levels of inline markup): {poorer}")
    print(f"figures that lxml's bare <fig> or pubmed_parser finds and pathasst loses: {len(lost_by_us)}", *lost_by_us)
    return {
        "lost by pathasst": len(lost_by_us),
        "lost by pubmed_parser": len(lost_by_them),
        "errors of pubmed_parser": len(errors),
    }


def _main() -> None:
    options = command_line(__doc__)
    options.add_argument("--data", default=os.environ.get("PATHASST_DATA", ""))
    options.add_argument("--rounds", type=int, default=7)
    arguments = options.parse_args()
    if not arguments.data:
        raise SystemExit("Set PATHASST_DATA, or give --data.")
    with tempfile.TemporaryDirectory() as temporary:
        data, paths = Path(arguments.data), []
        for source in sorted([*data.glob("articles/xml/*.xml"), *data.glob("jats/*.xml.gz")]):
            target = Path(temporary) / source.name.removesuffix(".gz")
            target.write_bytes(gzip.decompress(source.read_bytes()) if source.suffix == ".gz" else source.read_bytes())
            paths.append(str(target))
        print(f"{len(paths)} files, {sum(map(os.path.getsize, paths)) / 1e6:.1f} MB, {arguments.rounds} rounds")
        times: dict[str, list[float]] = {"lxml": [], "pubmed_parser": [], "pathasst": [], "wall 1": [], "wall 2": []}
        with ProcessPoolExecutor(1) as one, ProcessPoolExecutor(2) as two:
            _wall(one, paths, 1), _wall(two, paths, 2)  # start the processes
            for _ in range(arguments.rounds):
                times["lxml"].append(_one_process(_floor, paths))
                times["pubmed_parser"].append(_one_process(_tolerant(_theirs), paths))
                times["pathasst"].append(_one_process(_ours, paths))
                times["wall 1"].append(_wall(one, paths, 1))
                times["wall 2"].append(_wall(two, paths, 2))
        values: dict[str, object] = {"files": len(paths), "megabytes": sum(map(os.path.getsize, paths)) / 1e6}
        middle = {k: statistics.median(v) for k, v in times.items()}
        for name in ("lxml", "pubmed_parser", "pathasst"):
            ratios = sorted(t / f for t, f in zip(times[name], times["lxml"], strict=True))
            print(f"{name:14} {middle[name]:.3f} s   {statistics.median(ratios):.2f} x floor ({ratios[0]:.2f}-{ratios[-1]:.2f})")
            values[name] = {
                "CPU seconds": middle[name],
                "of the floor": Interval(statistics.median(ratios), ratios[0], ratios[-1]),
            }
        speed = sorted(a / b for a, b in zip(times["wall 1"], times["wall 2"], strict=True))
        print(f"pathasst, two processes: {statistics.median(speed):.2f} x as fast as one (rounds {speed[0]:.2f}-{speed[-1]:.2f})")
        values["two processes"] = Interval(statistics.median(speed), speed[0], speed[-1])
        save(arguments.json, values | _losses(paths))


if __name__ == "__main__":
    _main()
