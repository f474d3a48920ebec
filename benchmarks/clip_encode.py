"""Pictures a second that a shipped PathCLIP encodes: as the commands run it (ONNX Runtime), beside the same by torch.

python benchmarks/clip_encode.py [--model pathclip-lite] [--pictures 256] [--rounds 3]

Pictures of noise in memory, 224×224; writing the ONNX files, once a model, is not counted, but printed. The two take turns, each
with one thread. CPU seconds count, so that a busy machine changes little; the slowest to the fastest round.
"""

from __future__ import annotations

import os
import statistics
import time

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
from measured import command_line, save

from pathasst.core.statistics import Interval


def main() -> None:
    """Measure and print."""
    from pathasst.clip import onnx
    from pathasst.clip.model import DualEncoder, PathCLIPModel

    parser = command_line(__doc__)
    parser.add_argument("--model", default="pathclip-lite")
    parser.add_argument("--pictures", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    pictures = np.random.default_rng(0).integers(0, 255, (given.pictures, 224, 224, 3), dtype=np.uint8)
    started = time.perf_counter()
    onnx.prepare(given.model)
    written = time.perf_counter() - started
    ways: dict[str, DualEncoder] = {"torch": PathCLIPModel.load(given.model), "ONNX Runtime": onnx.load(given.model)}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    vectors = {name: clip.encode_image(pictures[:64]) for name, clip in ways.items()}  # warm
    for _ in range(given.rounds):
        for name, clip in ways.items():
            began = time.process_time()
            clip.encode_image(pictures)
            rates[name].append(given.pictures / (time.process_time() - began))
    found = {n: Interval(statistics.median(r), min(r), max(r)) for n, r in rates.items()}
    ratio = found["ONNX Runtime"].value / found["torch"].value
    cosine = float((vectors["torch"] * vectors["ONNX Runtime"]).sum(axis=1).min())
    for name, rate in found.items():
        print(f"{name}: {rate} pictures per CPU second")
    print(f"ratio {ratio:.2f}, least cosine of the two {cosine:.6f}, ONNX files ready in {written:.0f} s")
    kept = {name: {"pictures per CPU second": rate} for name, rate in found.items()}
    save(given.json, {**kept, "model": given.model, "ratio": ratio, "least cosine": cosine})


if __name__ == "__main__":
    main()
