"""Pictures a second: our training step beside `open_clip_train`'s own loop, same model, same pictures, one run, one core.

python benchmarks/clip_throughput.py --pairs out/pairs-labels [--steps 8] [--batch 64]

open_clip_train reads a CSV of JPEG files (as its users do) and runs the text tower; we read pre-decoded pictures from memory and
embed the captions of the frozen text tower once. Both use bf16 autocast, AdamW, one thread of the model and one that prepares the
next batch. Loading and embedding before the first step is not counted, but printed. Of the steps: the median, slowest to fastest.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import itertools
import os
import statistics
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from measured import save

from pathasst.intervals import Interval

os.environ["OMP_NUM_THREADS"] = "1"


def rates(times: list[float], batch: int) -> Interval:
    """Pictures a second from the times at which steps began; the first step warms up."""
    each = sorted(batch / (b - a) for a, b in itertools.pairwise(times[1:]))
    return Interval(statistics.median(each), each[0], each[-1])


def ours(pairs: str, steps: int, batch: int, keep: float) -> tuple[Interval, float]:
    """(pictures a second, seconds of preparation)."""
    from pathasst.clip.distill import Teaching
    from pathasst.clip.steps import Steps
    from pathasst.clip.train import ClipRecipe, train

    started = time.perf_counter()
    times: list[float] = []
    recipe = ClipRecipe.load(
        "embedded",
        **{"data": [pairs], "splits": ["val"], "batch": batch, "steps": 10 * steps, "warmup": 1, "keep_patches": keep},
        teach=Teaching(),
    )
    step = Steps.step

    def timed(self: Steps, number: int, prepared: Any) -> dict[str, float]:
        times.append(time.perf_counter())
        return step(self, number, prepared)

    Steps.step = timed  # type: ignore[method-assign]
    try:
        with tempfile.TemporaryDirectory() as out:
            train(recipe, out, stop_at=steps + 2)
    finally:
        Steps.step = step  # type: ignore[method-assign]
    return rates(times, batch), times[0] - started


def theirs(pairs: str, steps: int, batch: int) -> Interval:
    """open_clip_train's CsvDataset, image transform and train_one_epoch."""
    import open_clip
    import torch
    from open_clip_train.data import CsvDataset, DataInfo
    from open_clip_train.train import train_one_epoch

    from pathasst.clip.build import build, tokenizer_of
    from pathasst.clip.train import ClipRecipe
    from pathasst.dataset import read
    from pathasst.records import Pair

    torch.set_num_threads(1)
    config = ClipRecipe.load("embedded").config()
    model = build(config)
    model.output_dict = True
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "train.csv"
        with table.open("w", newline="") as file:
            writer = csv.writer(file, delimiter="\t")
            writer.writerow(["filepath", "title"])
            for pair in read(pairs, Pair):
                if pair.split == "val":
                    path = Path(folder) / f"{hashlib.md5(pair.image).hexdigest()}.jpg"
                    path.write_bytes(pair.image)
                    writer.writerow([path, pair.caption])
        transform = open_clip.image_transform(config.image_size, is_train=True)
        data = CsvDataset(str(table), transform, "filepath", "title", tokenizer=tokenizer_of(config))
        subset = torch.utils.data.Subset(data, range(batch * (steps + 2)))
        loader = torch.utils.data.DataLoader(subset, batch, shuffle=True, num_workers=1, drop_last=True)
        loader.num_batches, loader.num_samples = len(loader), len(subset)  # type: ignore[attr-defined]
        times: list[float] = []
        args = SimpleNamespace(
            **{"device": "cpu", "precision": "amp_bfloat16", "distill": False, "accum_freq": 1, "skip_scheduler": True},
            **{"grad_clip_norm": 1.0, "rank": 0, "local_rank": 0, "world_size": 1, "log_every_n_steps": 10**6, "wandb": False},
            **{"horovod": False, "batch_size": batch, "log_local": False},
        )

        def loss(**features: object) -> dict:
            times.append(time.perf_counter())
            features.pop("output_dict")
            return open_clip.ClipLoss()(**features, output_dict=True)

        optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-4)
        train_one_epoch(model, {"train": DataInfo(loader)}, loss, 0, optimiser, None, None, None, args)
    return rates(times, batch)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", required=True)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--json", type=Path, help="keep the result in this file")
    options = parser.parse_args()
    peer = theirs(options.pairs, options.steps, options.batch)
    print(f"open_clip_train, pictures/s {peer}")
    kept: dict[str, dict[str, Any]] = {"open_clip_train": {"pictures/s": peer, "ratio": 1.0, "preparation, s": 0.0}}
    for keep in (1.0, 0.5):
        rate, before = ours(options.pairs, options.steps, options.batch, keep)
        ratio = rate.value / peer.value
        print(f"pathasst, {keep:.0%} of the patches, pictures/s {rate}  ratio {ratio:.2f}  (preparation {before:.0f} s)")
        kept[f"pathasst, {keep:.0%} of the patches"] = {"pictures/s": rate, "ratio": ratio, "preparation, s": before}
    save(options.json, kept)


if __name__ == "__main__":
    main()
