"""Reading MEDLINE: this package beside bare gunzip + lxml, and pubmed_parser, in one run on one file.

    python benchmarks/papers_ingest.py [--repeats 3]

Times are CPU seconds of the process (the machine may be shared); the last rows are wall seconds of the whole ingest, with Parquet
shards written, for two copies of the file in one process and in two. Needs the weights id `medline-sample`.
"""

from __future__ import annotations

import argparse
import gzip
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from lxml import etree
from measured import save

from pathasst import weights
from pathasst.papers.ingest import ingest
from pathasst.papers.medline import parse_medline
from pathasst.records import Abstract

FILE = "pubmed21n1298.xml.gz"


def bare_tree(path: Path) -> int:
    """The floor: decompress everything, parse the whole tree, count its records. No field is read."""
    with gzip.open(path) as file:
        return len(etree.fromstring(file.read()).findall("PubmedArticle"))


def bare_stream(path: Path) -> int:
    """The same in flat memory, with iterparse."""
    count = 0
    with gzip.open(path) as file:
        for _, element in etree.iterparse(file, tag="PubmedArticle"):
            count += 1
            element.clear()
            while element.getprevious() is not None:
                del element.getparent()[0]
    return count


def ours(path: Path) -> int:
    """This package: every field of every record."""
    return sum(isinstance(item, Abstract) for item in parse_medline(path))


def peer(path: Path) -> int:
    """pubmed_parser, as it comes."""
    import pubmed_parser

    return sum(not row["delete"] for row in pubmed_parser.parse_medline_xml(str(path)))


def cpu(run: Callable[[Path], int], path: Path) -> tuple[int, float]:
    """What `run` counts, and the CPU seconds it takes."""
    started = time.process_time()
    count = run(path)
    return count, time.process_time() - started


def whole_ingest(path: Path, workers: int) -> float:
    """Wall seconds of two copies of the file to Parquet shards."""
    with tempfile.TemporaryDirectory() as folder:
        copies = [Path(folder) / f"{n}.xml.gz" for n in range(2)]
        for copy in copies:
            shutil.copy(path, copy)
        started = time.perf_counter()
        ingest(copies, Path(folder) / "out", workers=workers, progress=False)
        return time.perf_counter() - started


def main() -> None:
    """Run all and print the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--json", type=Path, help="keep the result in this file")
    given = options.parse_args()
    repeats = given.repeats
    path = weights.path("medline-sample") / FILE
    print(f"{FILE}: {path.stat().st_size / 1e6:.0f} MB; median of {repeats} runs, alternating")
    runs = {
        "gunzip + lxml, whole tree": bare_tree,
        "gunzip + lxml, streaming": bare_stream,
        "pathasst": ours,
        "pubmed_parser": peer,
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    counts = {}
    for _ in range(repeats):
        for name, run in runs.items():
            counts[name], seconds = cpu(run, path)
            times[name].append(seconds)
    floor = statistics.median(times["gunzip + lxml, whole tree"])
    kept: dict[str, object] = {}
    for name, values in times.items():
        middle = statistics.median(values)
        span = f"{min(values):.2f}–{max(values):.2f}"
        print(f"{name:28} {counts[name]} records  {middle:5.2f} s CPU ({span})  {middle / floor:4.2f} × floor")
        kept[name] = {"records": counts[name], "CPU seconds": middle, "of the floor": middle / floor}
    one, two = whole_ingest(path, 1), whole_ingest(path, 2)
    print(f"two files to Parquet: {one:.1f} s wall in one process, {two:.1f} s in two ({one / two:.2f} ×)")
    kept["two files to Parquet"] = {"one process, s": one, "two processes, s": two, "times as fast": one / two}
    save(given.json, kept)


if __name__ == "__main__":
    main()
