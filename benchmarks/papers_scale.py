"""The clustered index at scale: build time, recall, latency, memory, beside flat, the paper's plain IVF, and HNSW.

    python benchmarks/papers_scale.py                                          # 50,000 vectors: a minute
    python benchmarks/papers_scale.py --sizes 50000,200000,1000000,5300000 --out DIR    # the paper's size; 9 GB of disk

Vectors and queries come from the distribution of real embeddings (`papers_scale_vectors.py`); no query is in the collection.
"Exact" is the order of the unrounded vectors. Every step has a process of its own, so that its memory is its own, and its result
is kept: a run that was stopped goes on, and `results.json` in the folder has all results after every step. Search is one query at
a time on one thread. Peers are built from fp32 vectors up to `--peers` of them; beyond, plain IVF's recall is still measured (a
neighbour is found if its cluster is), the rest computed.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from measured import command_line, save
from numpy.typing import NDArray
from papers_scale_vectors import BLOCK, Drawer

from pathasst.papers.clusters import CLUSTERS, CODES, Clusters, ClusterSettings, build_clusters

SEED, QUERIES, K = 1, 500, 10
QUERY_SEED = 10**6
SWEEP = ((16, 200), (32, 200), (64, 200), (64, 400), (128, 200), (128, 400), (256, 400))  # clusters visited, candidates refined
TRAINED = 4  # blocks that the peers' k-means sees
PLAIN = (16, 32, 64, 128)  # clusters visited by the paper's plain IVF


def draw(folder: Path, n: int, dim: int) -> dict[str, Any]:
    """The vectors as bytes on disk, and the exact answers of the queries among the unrounded ones."""
    import torch

    drawer = Drawer(dim)
    queries = drawer(QUERIES, QUERY_SEED)
    best, rows = torch.full((QUERIES, K), -2.0), torch.full((QUERIES, K), -1)

    def look(start: int, vectors: NDArray[np.float32]) -> None:
        nonlocal best, rows
        scores, found = (torch.from_numpy(queries) @ torch.from_numpy(vectors).T).topk(min(K, len(vectors)))
        joined, names = torch.cat([best, scores], 1), torch.cat([rows, found + start], 1)
        best, place = joined.topk(K)
        rows = names.gather(1, place)

    started = time.perf_counter()
    drawer.to_file(folder / "raw.npy", n, SEED, look)
    np.save(folder / "queries.npy", queries)
    np.save(folder / "exact.npy", rows.numpy())
    return {"seconds": round(time.perf_counter() - started, 1), "cosine of the 10th": round(float(best[:, -1].mean()), 3)}


def build(folder: Path, n: int, dim: int) -> dict[str, Any]:
    """Cluster, compress, write; the exact answers are renamed to cluster order."""
    started, cpu = time.perf_counter(), time.process_time()
    order = build_clusters(np.load(folder / "raw.npy", mmap_mode="r"), folder)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    place = np.empty(n, np.int64)
    place[order] = np.arange(n)
    np.save(folder / "exact_sorted.npy", place[np.load(folder / "exact.npy")])
    (folder / "raw.npy").unlink()
    disk = sum((folder / name).stat().st_size for name in (CODES, CLUSTERS)) / 1e9
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {"seconds": round(seconds, 1), "cpu_s": round(cpu, 1), "peak_gb": round(peak, 2), "disk_gb": round(disk, 2)}


def ours(folder: Path, n: int, dim: int) -> dict[str, Any]:
    """Open and search, for several numbers of clusters visited; memory is the whole process after all queries."""
    import faiss

    faiss.omp_set_num_threads(1)
    started = time.perf_counter()
    opened = Clusters(folder)
    opens = time.perf_counter() - started
    queries, exact = np.load(folder / "queries.npy"), np.load(folder / "exact_sorted.npy")
    rows = {}
    for probes, refine in SWEEP:
        rows[f"{probes} of {opened.lists} clusters, {refine} refined"] = measured(
            lambda q, p=probes, r=refine: opened.search(q, K, probes=p, refine=r)[0], queries, exact
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {"opens_s": round(opens, 2), **memory(), "peak_gb": round(peak, 2), "rows": rows}


def plain(folder: Path, n: int, dim: int) -> dict[str, Any]:
    """The paper's IVF without compression: recall, and the share of the collection that it compares, by clusters visited."""
    import faiss

    index = faiss.read_index(str(folder / CLUSTERS))
    queries, exact = np.load(folder / "queries.npy"), np.load(folder / "exact_sorted.npy")
    sizes = np.array([index.invlists.list_size(i) for i in range(index.nlist)])
    cluster = np.searchsorted(np.cumsum(sizes), exact, side="right")
    visited = index.quantizer.search(queries, max(PLAIN))[1]
    rows = {}
    for probes in PLAIN:
        found = (cluster[:, :, None] == visited[:, None, :probes]).any(2)
        share = sizes[visited[:, :probes]].sum(1).mean() / n
        rows[f"{probes} of {index.nlist} clusters"] = {
            "recall@10": round(float(found.mean()), 4),
            "compared": round(float(share), 4),
        }
    return {"rows": rows}


def peer(folder: Path, n: int, dim: int, factory: str, settings: tuple[int, ...]) -> dict[str, Any]:
    """A Faiss index of unrounded fp32 vectors as it comes; `settings`: nprobe or efSearch."""
    import faiss

    faiss.omp_set_num_threads(1)
    drawer, seconds, rows = Drawer(dim), 0.0, {}
    index: Any = faiss.index_factory(dim, factory, faiss.METRIC_INNER_PRODUCT)
    blocks = [(min(BLOCK, n - s), SEED + i) for i, s in enumerate(range(0, n, BLOCK))]
    if not index.is_trained:
        sample = np.concatenate([drawer(*block) for block in blocks[:TRAINED]])
        started = time.perf_counter()
        index.train(sample)
        seconds += time.perf_counter() - started
        del sample
    for block in blocks:  # drawn again, one at a time: the machine holds the vectors once
        vectors = drawer(*block)
        started = time.perf_counter()
        index.add(vectors)
        seconds += time.perf_counter() - started
    queries, exact = np.load(folder / "queries.npy"), np.load(folder / "exact.npy")
    for value in settings or (0,):
        if factory.startswith("IVF"):
            index.nprobe = value
        if factory.startswith("HNSW"):
            index.hnsw.efSearch = value
        rows[str(value or "all")] = measured(lambda q: index.search(q[None], K)[1][0], queries, exact)
    faiss.write_index(index, str(folder / "peer.faiss"))
    size = (folder / "peer.faiss").stat().st_size / 1e9
    (folder / "peer.faiss").unlink()
    return {"seconds": round(seconds, 1), "memory_gb": round(size, 3), "rows": rows}


def measured(
    search: Callable[[NDArray[np.float32]], NDArray[np.int64]], queries: NDArray[np.float32], exact: NDArray[np.int64]
) -> dict:
    """Recall, and the time of a query: wall (p50, p99) and CPU (mean)."""
    search(queries[0])
    found, times, cpu = [], [], time.process_time()
    for query in queries:
        started = time.perf_counter()
        found.append(search(query))
        times.append(time.perf_counter() - started)
    cpu = (time.process_time() - cpu) / len(queries) * 1e3
    recall = np.mean([len(set(f.tolist()) & set(e.tolist())) / K for f, e in zip(found, exact, strict=True)])
    p50, p99 = np.percentile(np.array(times) * 1e3, [50, 99])
    return {"recall@10": round(float(recall), 4), "p50_ms": round(p50, 2), "p99_ms": round(p99, 2), "cpu_ms": round(cpu, 2)}


def memory() -> dict[str, float]:
    """Gigabytes this process has resident now: all of it, and the part that maps files, which the system may take back."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith(("VmRSS", "RssFile"))}
    return {"resident_gb": round(kilobytes["VmRSS"] / 1e6, 2), "of_files_gb": round(kilobytes["RssFile"] / 1e6, 2)}


def computed(n: int, dim: int, at: int, peers: dict[str, dict[str, Any]], ivf: dict[str, Any]) -> None:
    """What the peers would need at `n`, from what they needed at `at`."""
    flat, hnsw = peers["flat"], peers["hnsw"]
    each = flat["rows"]["all"]["p50_ms"] / at
    print(f"  computed from {at:,}: flat {n * dim * 4 / 1e9:.1f} GB, {each * n:.0f} ms, recall 1")
    for name, row in ivf["rows"].items():
        needs = f"{n * (dim * 4 + 8) / 1e9:.1f} GB, {each * n * row['compared']:.1f} ms (computed)"
        print(f"  plain IVF, {name}: recall@10 {row['recall@10']} (measured), {needs}")
    grows = np.log(n) / np.log(at)
    for name, row in hnsw["rows"].items():
        build_s = hnsw["seconds"] * n / at * grows
        print(
            f"  HNSW32 efSearch {name}: {n * (dim * 4 + 2 * 32 * 4 + 8) / 1e9:.1f} GB, {row['p50_ms'] * grows:.1f} ms, "
            f"build {build_s / 60:.0f} min (computed); recall@10 {row['recall@10']} at {at:,}, lower beyond"
        )


def steps_of(lists: int) -> dict[str, Callable[[Path, int, int], dict[str, Any]]]:
    """Every step by name; `lists`: clusters of the plain IVF."""
    return {
        "draw": draw,
        "build": build,
        "ours": ours,
        "plain": plain,
        "flat": lambda f, n, d: peer(f, n, d, "Flat", ()),
        "ivf": lambda f, n, d: peer(f, n, d, f"IVF{lists},Flat", PLAIN),
        "hnsw": lambda f, n, d: peer(f, n, d, "HNSW32,Flat", (64, 256)),
    }


def step(name: str, folder: Path, n: int, dim: int) -> dict[str, Any]:
    """What a step measured, run in a process of its own unless it was run before."""
    kept = folder / f"{name}.json"
    if not kept.is_file():
        command = [sys.executable, __file__, "--sizes", str(n), "--dim", str(dim), "--out", str(folder.parent), "--step", name]
        subprocess.run(command, check=True)
    found = json.loads(kept.read_text(encoding="utf-8"))
    together = {f"{p.parent.name}/{p.stem}": json.loads(p.read_text()) for p in sorted(folder.parent.glob("*/*.json"))}
    (folder.parent / "results.json").write_text(json.dumps(together, indent=1) + "\n", encoding="utf-8")
    rows = found.pop("rows", {})
    print(f"  {name}: {json.dumps(found)}" if found else f"  {name}:", flush=True)
    for label, row in rows.items():
        print(f"    {label}: {json.dumps(row)}", flush=True)
    return {**found, "rows": rows}


def main() -> None:
    """Size after size, step after step."""
    options = command_line(__doc__)
    options.add_argument("--sizes", default="50000", help="numbers of vectors, with commas")
    options.add_argument("--dim", type=int, default=768, choices=(384, 768))
    options.add_argument("--out", type=Path, help="folder that keeps every step; default: a temporary one")
    options.add_argument("--peers", type=int, default=50_000, help="largest collection that peers are built from")
    options.add_argument("--step", default="", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        chosen.out = chosen.out or Path(temporary)
        measure(chosen)


def measure(chosen: argparse.Namespace) -> None:
    """One step, or all of them."""
    sizes = [int(n) for n in chosen.sizes.split(",")]
    if chosen.step:
        folder = chosen.out / f"{sizes[0]}x{chosen.dim}"
        found = steps_of(ClusterSettings().lists_for(sizes[0]))[chosen.step](folder, sizes[0], chosen.dim)
        (folder / f"{chosen.step}.json").write_text(json.dumps(found), encoding="utf-8")
        return
    at, peers = 0, {}
    kept: dict[str, Any] = {}
    for n in sizes:
        folder = chosen.out / f"{n}x{chosen.dim}"
        folder.mkdir(parents=True, exist_ok=True)
        print(f"{n:,} vectors × {chosen.dim}, {QUERIES} queries, one thread, seed {SEED}", flush=True)
        found = {name: step(name, folder, n, chosen.dim) for name in ("draw", "build", "ours", "plain")}
        kept[f"{n} vectors"] = found
        if n <= chosen.peers:
            at, peers = n, {name: step(name, folder, n, chosen.dim) for name in ("flat", "ivf", "hnsw")}
            kept[f"{n} vectors"] = found | peers
        elif peers:
            computed(n, chosen.dim, at, peers, found["plain"])
    save(chosen.json, kept)


if __name__ == "__main__":
    main()
