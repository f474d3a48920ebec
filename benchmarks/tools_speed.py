"""How fast the tools answer on this machine: Ki67 and boxes at 640 px, segmentation by prompt, everything; medians of warm calls.

    python benchmarks/tools_speed.py [--runs 7] [--threads 2]

Beside the Ki67 network stands the same in float32, which is what it costs where the CPU has no bf16. Needs no data.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from measured import command_line, save


def median_ms(work: Callable[[], object], runs: int) -> tuple[float, float]:
    """(median wall ms, median CPU ms) of warm calls."""
    work()
    wall, cpu = [], []
    for _ in range(runs):
        started, used = time.perf_counter(), time.process_time()
        work()
        wall.append(1e3 * (time.perf_counter() - started))
        cpu.append(1e3 * (time.process_time() - used))
    return statistics.median(wall), statistics.median(cpu)


def main() -> None:
    """Measure and print."""
    import cv2
    from skimage.data import immunohistochemistry

    from pathasst.core.records import ToolCall
    from pathasst.nn import heads
    from pathasst.tools.cells.detect import detector
    from pathasst.tools.lbc_classify import FIELDS
    from pathasst.tools.registry import default_registry, tool_class

    parser = command_line(__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    demo = immunohistochemistry()
    field = cv2.resize(demo[64:448, 64:448], (640, 640), interpolation=cv2.INTER_CUBIC)
    registry = default_registry()
    seg, generates = registry.tools["segment"], registry.tools["lbc_generate"]
    seg(ToolCall(name="segment", arguments={"points": [[300, 300]]}), field)

    def call(name: str, **arguments: object) -> Callable[[], object]:
        return lambda: registry.call(ToolCall(name=name, arguments=arguments), field)

    def embed() -> None:
        seg.sam._embeddings.clear()
        seg.sam.set_image(field)

    def float32() -> None:
        found = detector()
        kept, found.bf16 = found.bf16, False
        found(field)
        found.bf16 = kept

    embedding = seg.sam.set_image(field)
    point = np.array([[300.0, 300.0]])
    rows = [
        ("Ki67, network and suppression alone, 640 px", lambda: detector()(field), 500),
        ("  the same in float32", float32, None),
        ("Ki67, whole call with scale 0.25 µm/px and picture, 640 px", call("ki67_cells", um_per_px=0.25), 500),
        ("HER2, whole call, 640 px", call("her2_cells", um_per_px=0.25), None),
        *[
            (f"{name}, whole call with picture, 640 px", call(name), 200)
            for name in ("blood_cells", "lbc_detect")
            if not tool_class(name).missing()
        ],
        ("lbc_classify, network alone, 640 px", lambda: heads.load(FIELDS)([field]), 50),
        ("lbc_classify, whole call with picture, 640 px", call("lbc_classify"), 50),
        *([] if generates.missing() else [("lbc_generate, one cell", call("lbc_generate", cell_class="LSIL"), None)]),
        ("segmentation: embedding of a picture", embed, None),
        ("segmentation: a prompt after embedding, mask alone", lambda: seg.sam.predict(embedding, point), 150),
        ("segmentation: whole call after embedding, with pictures", call("segment", points=[[300, 300]]), None),
    ]
    kept = []
    print(f"{os.cpu_count()} CPUs, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}")
    print(f"{'what':62s} {'wall ms':>9s} {'CPU ms':>9s}  goal")
    for name, work, goal in rows:
        wall, cpu = median_ms(work, given.runs)
        print(f"{name:62s} {wall:9.0f} {cpu:9.0f}  {'' if goal is None else f'< {goal} ms'}", flush=True)
        kept.append([name.strip(), round(wall), round(cpu), "" if goal is None else f"< {goal} ms"])
    wall, cpu = median_ms(call("segment"), runs=1)
    print(f"{'segmentation: everything':62s} {wall:9.0f} {cpu:9.0f}", flush=True)
    kept.append(["segmentation: everything", round(wall), round(cpu), ""])
    save(given.json, {"table": {"columns": ["what", "wall ms", "CPU ms", "goal"], "rows": kept}})


if __name__ == "__main__":
    main()
