"""Speed of curation without a language model: figures a second with one and with two workers, and where the time goes.

    PATHASST_DATA=… python benchmarks/curate_speed.py [OUT] [--figures DATASET] [--select ID] [--similarity none] [--repeat 6]

Settings are the embedded recipe's. OUT is emptied first; without it a temporary folder is taken. DATASET is one of
`pathasst collect`; without it the 140 figures of `articles` are taken. To have shards enough for two workers it is read once for
each repeat. Beside the wall clock the processors' seconds a figure are
printed (this process and its descendants): on a busy machine they alone are comparable, and `idle_speed_up` says what two free
cores would give if the workers shared the work evenly: seconds of one worker / (seconds of two / 2).
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import shutil
import tempfile
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

from measured import command_line, save

from pathasst.clip.similarity import clip_similarity
from pathasst.core.records import Figure, Source
from pathasst.curate import pipeline
from pathasst.curate.curator import Curator
from pathasst.curate.settings import CurateSettings
from pathasst.dataset import Manifest, Unit, run_stage, units_of_dataset


class CpuClock:
    """Processor time of this process and its descendants, looked up twice a second while it runs (workers may be killed)."""

    def __enter__(self) -> CpuClock:
        self.ticks: dict[int, int] = {}
        self.begun = {p: t for p, t in self._now().items() if p == os.getpid()}
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join()
        self.ticks.update(self._now())

    @property
    def seconds(self) -> float:
        return (sum(self.ticks.values()) - sum(self.begun.values())) / os.sysconf("SC_CLK_TCK")

    def _watch(self) -> None:
        while not self.done.wait(0.5):
            self.ticks.update(self._now())

    def _now(self) -> dict[int, int]:
        """User and system ticks of the processes below this one."""
        parents, ticks = {}, {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(stat.parent.name)] = int(fields[1])
            ticks[int(stat.parent.name)] = int(fields[11]) + int(fields[12])
        family = {os.getpid()}
        while more := {p for p, parent in parents.items() if parent in family} - family:
            family |= more
        return {p: ticks[p] for p in family}


class Repeated:
    """Figures of a unit again, under other ids, so that nothing is a duplicate by name."""

    def __call__(self, unit: Unit):
        from pathasst.dataset import read

        for path in unit.paths:
            for figure in read(path, Figure):
                yield replace(figure, figure_id=f"{figure.figure_id}-{unit.key}")


@dataclass(frozen=True)
class Articles:
    """The figures of `articles`, a few to a unit."""

    data: Path

    def __call__(self, unit: Unit):
        figures = {f["image"]: f for f in json.loads((self.data / "figures.json").read_text())}
        for name in unit.paths:
            f, image = figures[name], (self.data / "figures" / name).read_bytes()
            source = Source(article_id=f["pmcid"], licence="CC-BY-4.0", doi=f.get("doi", ""))
            yield Figure(figure_id=f"{f['pmcid']}/{Path(name).stem}", source=source, caption=f["caption_jats"], image=image)


def articles(out: Path) -> Path:
    """A dataset of Figures of 14 in a shard."""
    data = Path(os.environ["PATHASST_DATA"]) / "articles"
    names = [f["image"] for f in json.loads((data / "figures.json").read_text())]
    units = [Unit(f"{n:03d}", names[n : n + 14]) for n in range(0, len(names), 14)]
    run_stage(out, stage="articles", record=Figure, units=units, work=Articles(data), progress=False)
    return out


def main() -> None:
    """Print figures a second as JSON, and the profile of one shard."""
    parser = command_line(__doc__)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--figures", type=Path)
    parser.add_argument("--select", help="another classifier, or '' to keep every figure")
    parser.add_argument("--similarity", help="another PathCLIP, or none")
    parser.add_argument("--repeat", type=int, default=6)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        measure(args, args.out or Path(temporary))


def measure(args: argparse.Namespace, out: Path) -> None:
    """Run the stage with one worker and with two in `out`; print, keep and profile."""
    shutil.rmtree(out, ignore_errors=True)
    args.figures = args.figures or articles(out / "articles")
    units = [Unit(f"{n}-{u.key}", u.paths, u.stamp) for n in range(args.repeat) for u in units_of_dataset(args.figures)]
    many = out / "figures"
    rows = run_stage(many, stage="repeat", record=Figure, units=units, work=Repeated(), progress=False).rows
    given = {k: v for k, v in (("select", args.select), ("similarity", args.similarity)) if v is not None}
    settings = CurateSettings.load("embedded", **given)
    settings = settings.replace(quality=settings.quality.replace(duplicate_bits=0))
    clip = clip_similarity(settings.similarity)
    result: dict[str, float] = {"figures": rows, "shards": len(units)}
    for workers in (1, 2):
        started = time.perf_counter()
        with CpuClock() as clock:
            pipeline.run(many, out / f"pairs{workers}", settings, similarity=clip, workers=workers, progress=False)
        result[f"figures_per_second_{workers}"] = round(rows / (time.perf_counter() - started), 2)
        result[f"cpu_seconds_per_figure_{workers}"] = round(clock.seconds / rows, 4)
    result["speed_up"] = round(result["figures_per_second_2"] / result["figures_per_second_1"], 2)
    result["idle_speed_up"] = round(2 * result["cpu_seconds_per_figure_1"] / result["cpu_seconds_per_figure_2"], 2)
    same = [[s.sha256 for s in Manifest.load(out / f"pairs{w}").shards] for w in (1, 2)]
    result["identical"] = same[0] == same[1]
    print(json.dumps(result, indent=1), flush=True)
    save(args.json, result)
    profile = cProfile.Profile()
    curator = Curator(settings, clip)
    profile.runcall(lambda: list(curator(units_of_dataset(args.figures)[0])))
    pstats.Stats(profile).sort_stats("tottime").print_stats(12)


if __name__ == "__main__":
    main()
