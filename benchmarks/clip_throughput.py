"""Pictures a second: our training step beside `open_clip_train`'s own loop, same model, same pictures, one run, one core.

python benchmarks/clip_throughput.py --pairs out/pairs-labels [--steps 8] [--batch 64]

Two models: the embedded recipe's, whose text tower is MiniLM, frozen; and the same ViT with a text tower of CLIP's own, trained,
where nothing can be embedded once. open_clip_train reads a CSV of picture files (as its users do) and runs the text tower in
every step; ours reads pre-decoded pictures from memory. Both have AdamW, one thread of the model and one that prepares the next
batch, and bf16 where the machine multiplies it in hardware. What is done before the first step is not counted, but printed. The
loops take turns, `--rounds` times; of all their steps: the median, slowest to fastest.
"""

from __future__ import annotations

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

from measured import command_line, save

from pathasst.core.statistics import Interval

os.environ["OMP_NUM_THREADS"] = "1"
OWN_TEXT = {"context_length": 77, "vocab_size": 49408, "width": 256, "heads": 4, "layers": 4}  # a small text tower of CLIP's kind


def recipe(pairs: str, text: str, batch: int, steps: int, **changes: Any) -> Any:
    """The embedded recipe without its teacher; `text`: frozen (MiniLM) or trained (a text tower of CLIP's own)."""
    from pathasst.clip.settings import ClipTraining

    changes |= {"data": [pairs], "splits": ["val"], "batch": batch, "steps": steps, "distill": {}}
    settings = ClipTraining.load("embedded", **changes)
    if text == "frozen":
        return settings
    model = {**settings.model, "text_cfg": OWN_TEXT}
    return settings.replace(model=model, anchors=False)  # as open_clip_train: the batch's captions


def seconds(times: list[float]) -> list[float]:
    """Seconds a step from the times at which steps began; the first step warms up."""
    return [b - a for a, b in itertools.pairwise(times[1:])]


def ours(pairs: str, text: str, steps: int, batch: int, keep: float) -> tuple[list[float], float]:
    """(seconds of each step, seconds of preparation)."""
    from pathasst.clip.task import ClipTask
    from pathasst.clip.train import train

    started = time.perf_counter()
    times: list[float] = []
    loss = ClipTask.loss

    def timed(self: ClipTask, model: Any, batch: Any) -> Any:
        times.append(time.perf_counter())
        return loss(self, model, batch)

    ClipTask.loss = timed  # type: ignore[method-assign]
    try:
        with tempfile.TemporaryDirectory() as out:
            train(recipe(pairs, text, batch, 10 * steps, keep_patches=keep), out, stop_at=steps + 2)
    finally:
        ClipTask.loss = loss  # type: ignore[method-assign]
    return seconds(times), times[0] - started


def table(pairs: str, folder: Path) -> Path:
    """The pictures of the split val as files, and the CSV of their captions that open_clip_train reads."""
    from pathasst.core.records import Pair
    from pathasst.dataset import read

    out = folder / "train.csv"
    with out.open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerow(["filepath", "title"])
        for pair in read(pairs, Pair):
            if pair.split == "val":
                path = folder / f"{hashlib.md5(pair.image).hexdigest()}.jpg"
                path.write_bytes(pair.image)
                writer.writerow([path, pair.caption])
    return out


def theirs(pairs: str, csv_file: Path, text: str, steps: int, batch: int) -> list[float]:
    """open_clip_train's CsvDataset, image transform and train_one_epoch: seconds of each step."""
    import open_clip
    import torch
    from open_clip_train.data import CsvDataset, DataInfo
    from open_clip_train.train import train_one_epoch

    from pathasst.clip.build import build, tokenizer_of
    from pathasst.core.hardware import has_fast_bfloat16

    torch.set_num_threads(1)
    config = recipe(pairs, text, batch, steps).config()
    model = build(config)
    model.output_dict = True  # type: ignore[assignment]
    transform = open_clip.image_transform(config.image_size, is_train=True)
    data = CsvDataset(str(csv_file), transform, "filepath", "title", tokenizer=tokenizer_of(config))
    if len(data) < batch * (steps + 2):
        raise SystemExit(f"the split val has {len(data)} pairs; {steps} steps of {batch} need {batch * (steps + 2)}.")
    subset = torch.utils.data.Subset(data, torch.randperm(len(data))[: batch * (steps + 2)].tolist())
    loader: Any = torch.utils.data.DataLoader(subset, batch, shuffle=True, num_workers=1, drop_last=True)
    loader.num_batches, loader.num_samples = len(loader), len(subset)
    times: list[float] = []
    args = SimpleNamespace(
        **{"device": "cpu", "precision": "amp_bfloat16" if has_fast_bfloat16() else "fp32", "distill": False, "accum_freq": 1},
        **{"grad_clip_norm": 1.0, "rank": 0, "local_rank": 0, "world_size": 1, "log_every_n_steps": 10**6, "wandb": False},
        **{"horovod": False, "batch_size": batch, "log_local": False, "skip_scheduler": True},
    )

    def loss(**features: object) -> dict:
        times.append(time.perf_counter())
        features.pop("output_dict")
        return open_clip.ClipLoss()(**features, output_dict=True)

    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-4)
    train_one_epoch(model, {"train": DataInfo(loader)}, loss, 0, optimiser, None, None, None, args)
    return seconds(times)


def rate(times: list[float], batch: int) -> Interval:
    """Pictures a second: of the median step, the slowest and the fastest."""
    each = sorted(batch / t for t in times)
    return Interval(statistics.median(each), each[0], each[-1])


def main() -> None:
    """Print the table."""
    parser = command_line(__doc__)
    parser.add_argument("--pairs", required=True)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    kept: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        csv_file = table(given.pairs, Path(folder))
        for text in ("frozen", "trained"):
            peer: list[float] = []
            mine: dict[float, list[float]] = {1.0: [], 0.5: []}
            before = 0.0
            for _ in range(given.rounds):
                peer += theirs(given.pairs, csv_file, text, given.steps, given.batch)
                for keep, times in mine.items():
                    more, before = ours(given.pairs, text, given.steps, given.batch, keep)
                    times += more
            theirs_rate = rate(peer, given.batch)
            kept[f"text tower {text}, open_clip_train"] = {"pictures/s": theirs_rate, "ratio": 1.0, "preparation, s": 0.0}
            for keep, times in mine.items():
                found = rate(times, given.batch)
                values = {"pictures/s": found, "ratio": found.value / theirs_rate.value, "preparation, s": before}
                kept[f"text tower {text}, pathasst, {keep:.0%} of the patches"] = values
    for name, values in kept.items():
        speed, ratio, before = values.values()
        print(f"{name}: {speed} pictures/s, ratio {ratio:.2f}, prepared in {before:.0f} s")
    save(given.json, kept)


if __name__ == "__main__":
    main()
