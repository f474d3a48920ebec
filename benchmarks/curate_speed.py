"""Speed of curation without a language model: figures a second with one and with two workers, and where the time goes.

    python benchmarks/curate_speed.py FIGURES OUT [--select ID-or-FOLDER] [--repeat 3]

FIGURES is a dataset of `pathasst collect`; to have shards enough for two workers it is read once for each repeat.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import shutil
import time
from dataclasses import replace
from pathlib import Path

from pathasst.curate import pipeline
from pathasst.curate.settings import CurateSettings
from pathasst.curate.work import Curator
from pathasst.dataset import Manifest, Unit, run_stage, units_of_dataset
from pathasst.records import Figure


class Repeated:
    """Figures of a unit again, under other ids, so that nothing is a duplicate by name."""

    def __call__(self, unit: Unit):
        from pathasst.dataset import read

        for path in unit.paths:
            for figure in read(path, Figure):
                yield replace(figure, figure_id=f"{figure.figure_id}-{unit.key}")


def main() -> None:
    """Print figures a second as JSON, and the profile of one shard."""
    parser = argparse.ArgumentParser()
    parser.add_argument("figures", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--select", default="select-embedded")
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    shutil.rmtree(args.out, ignore_errors=True)
    units = [Unit(f"{n}-{u.key}", u.paths, u.stamp) for n in range(args.repeat) for u in units_of_dataset(args.figures)]
    many = args.out / "figures"
    rows = run_stage(many, stage="repeat", record=Figure, units=units, work=Repeated(), progress=False).rows
    settings = CurateSettings(select=args.select, similarity="none", quality={"duplicate_bits": 0})
    result: dict[str, float] = {"figures": rows}
    for workers in (1, 2):
        started = time.perf_counter()
        pipeline.run(many, args.out / f"pairs{workers}", settings, workers=workers, progress=False)
        result[f"figures_per_second_{workers}"] = round(rows / (time.perf_counter() - started), 2)
    result["speed_up"] = round(result["figures_per_second_2"] / result["figures_per_second_1"], 2)
    same = [[s.sha256 for s in Manifest.load(args.out / f"pairs{w}").shards] for w in (1, 2)]
    result["identical"] = same[0] == same[1]
    print(json.dumps(result, indent=1))
    profile = cProfile.Profile()
    curator = Curator(settings)
    profile.runcall(lambda: list(curator(units_of_dataset(args.figures)[0])))
    pstats.Stats(profile).sort_stats("tottime").print_stats(12)


if __name__ == "__main__":
    main()
