"""Reading MEDLINE: this package beside bare gunzip + lxml, and pubmed_parser, in one run on one file.

    python benchmarks/papers_ingest.py [--repeats 3] [--copies 6]

Times are CPU seconds of the process (the machine may be shared). The last rows are the whole ingest of several copies of the
file, with Parquet shards written, in one process and in two: wall seconds, which need idle cores, and CPU seconds of all
processes, which show what sharing costs. Needs the weights id `medline-sample`.
"""

from __future__ import annotations

import gzip
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from lxml import etree
from measured import command_line, save

from pathasst.core import weights
from pathasst.core.records import Abstract
from pathasst.papers.ingest import ingest
from pathasst.papers.medline import parse_medline

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


def whole_ingest(path: Path, copies: int, workers: int) -> tuple[float, list[float]]:
    """Wall seconds of some copies of the file to Parquet shards, and CPU seconds of every process in it, the busiest first."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{n}.xml.gz" for n in range(copies)]
        for file in files:
            shutil.copy(path, file)
        seen, done, before, started = {}, threading.Event(), family_cpu(), time.perf_counter()

        def watch() -> None:
            while not done.wait(0.1):
                seen.update(family_cpu())

        watcher = threading.Thread(target=watch)
        watcher.start()
        ingest(files, Path(folder) / "out", workers=workers, progress=False)
        wall = time.perf_counter() - started
        done.set()
        watcher.join()
        seen.update(family_cpu())
    return wall, sorted((seconds - before.get(pid, 0.0) for pid, seconds in seen.items()), reverse=True)


def family_cpu() -> dict[str, float]:
    """CPU seconds of this process and of each of its living descendants, by process id."""
    found, pids = {}, [str(os.getpid())]
    for pid in pids:
        try:
            ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
            pids += [c for task in Path(f"/proc/{pid}/task").iterdir() for c in (task / "children").read_text().split()]
        except OSError:  # it has just ended
            continue
        found[pid] = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
    return found


def main() -> None:
    """Run all and print the table."""
    options = command_line(__doc__)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--copies", type=int, default=6, help="of the file, for the whole ingest")
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
    ingests = {workers: whole_ingest(path, given.copies, workers) for workers in (1, 2)}
    for workers, (wall, each) in ingests.items():
        shares = " + ".join(f"{seconds:.1f}" for seconds in each if seconds >= 0.05)
        print(f"{given.copies} files to Parquet, workers: {workers}: {wall:.1f} s wall, CPU of its processes {shares} s")
    (one, alone), (two, shared) = ingests[1], ingests[2]
    print(f"two are {one / two:.2f} × as fast by the clock, {alone[0] / shared[0]:.2f} × by the CPU of the busiest process")
    kept[f"{given.copies} files to Parquet"] = {
        "one process, s": one,
        "two processes, s": two,
        "times as fast": one / two,
        "times as fast by CPU of the busiest process": alone[0] / shared[0],
    }
    save(given.json, kept)


if __name__ == "__main__":
    main()
