"""The clustered index at scale: build time, recall, latency, memory, beside flat, the paper's plain IVF, and HNSW.

    python benchmarks/papers_scale.py --n 300000                       # a few minutes
    python benchmarks/papers_scale.py --n 5300000 --dim 768 --out DIR   # the paper's size: about an hour and 9 GB of disk

Vectors are drawn from the distribution of real ones: a point between a shipped embedding (384 values) and one of its neighbours,
moved off that line by part of the difference of two other neighbours. For `--dim 768`, a second such point near the first one's
nearest neighbour is put behind it. Queries are made the same way and are not in the collection. Every number is measured in this
run, each system in a process of its own so that its memory is its own; the memory of what does not fit is computed. Search is
one query at a time on one thread.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from pathasst.papers.clusters import Clusters, ClusterSettings, build_clusters
from pathasst.papers.embed import from_bytes, to_bytes, version_of
from pathasst.papers.vectors import read_shipped

SEED, QUERIES, K = 0, 500, 10
BLOCK = 1 << 16


def draw(n: int, dim: int, seed: int) -> np.ndarray:
    """`n` unit vectors as signed bytes [n, dim], from the distribution of the shipped embeddings; see the module's text."""
    shipped = read_shipped(version_of("minilm"))
    if shipped is None:
        raise SystemExit("the shipped vectors (papers-vectors) are not here")
    anchors = np.random.default_rng(SEED).choice(len(shipped[1]), 16_384, replace=False)
    base = from_bytes(shipped[1][anchors])
    neighbours = _neighbours(base)
    rng = np.random.default_rng(seed)
    out = np.empty((n, dim), np.int8)
    for start in range(0, n, BLOCK):
        count = min(BLOCK, n - start)
        parts = [_mixed(base, neighbours, rng.integers(0, len(base), count), rng)]
        if dim == 2 * base.shape[1]:
            anchor = rng.integers(0, len(base), count)
            parts = [_mixed(base, neighbours, anchor, rng), _mixed(base, neighbours, neighbours[anchor, 0], rng)]
        block = np.concatenate(parts, axis=1)
        out[start : start + count] = to_bytes((block / np.linalg.norm(block, axis=1, keepdims=True)).astype(np.float32))
    return out


def _neighbours(base: np.ndarray) -> np.ndarray:
    """The 16 nearest others of every vector, int64 [n, 16]."""
    found = np.empty((len(base), 16), np.int64)
    for start in range(0, len(base), 2048):
        block = base[start : start + 2048] @ base.T
        block[np.arange(len(block)), np.arange(start, start + len(block))] = -2
        found[start : start + len(block)] = np.argpartition(-block, 16, axis=1)[:, :16]
    return found


def _mixed(base: np.ndarray, neighbours: np.ndarray, anchor: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A point on the way from each anchor to one of its neighbours, off the line by as much as real ones are."""
    other = neighbours[anchor, rng.integers(0, neighbours.shape[1], len(anchor))]
    share = rng.uniform(0, 0.7, (len(anchor), 1)).astype(np.float32)
    mixed = (1 - share) * base[anchor] + share * base[other]
    third = base[neighbours[other, rng.integers(0, neighbours.shape[1], len(anchor))]] - base[other]
    return mixed + 0.35 * third


def truth(codes: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """The exact K nearest rows of every query, int64 [q, K], over the collection block by block."""
    scores = np.full((len(queries), K), -2, np.float32)
    rows = np.full((len(queries), K), -1, np.int64)
    for start in range(0, len(codes), BLOCK):
        block = queries @ from_bytes(np.asarray(codes[start : start + BLOCK])).T
        joined = np.concatenate([scores, block], axis=1)
        names = np.concatenate([rows, np.broadcast_to(np.arange(start, start + block.shape[1]), block.shape)], axis=1)
        best = np.argpartition(-joined, K, axis=1)[:, :K]
        scores, rows = np.take_along_axis(joined, best, 1), np.take_along_axis(names, best, 1)
    return rows


def memory() -> float:
    """Gigabytes this process has resident now."""
    text = Path("/proc/self/statm").read_text(encoding="ascii")
    return int(text.split()[1]) * resource.getpagesize() / 1e9


def report(system: str, found: list[np.ndarray], times: list[float], exact: np.ndarray, **more: float | str) -> None:
    """One line of JSON, read by the parent."""
    recall = float(np.mean([len(set(f.tolist()) & set(e.tolist())) / K for f, e in zip(found, exact, strict=True)]))
    p50, p99 = np.percentile(np.array(times) * 1e3, [50, 99])
    print(json.dumps({"system": system, "recall@10": round(recall, 4), "p50_ms": round(p50, 2), "p99_ms": round(p99, 2), **more}))


def ours(folder: Path) -> None:
    """Open, search, at several numbers of clusters visited."""
    import faiss

    faiss.omp_set_num_threads(1)
    before, started = memory(), time.perf_counter()
    opened = Clusters(folder)
    opening = time.perf_counter() - started
    queries, exact = np.load(folder / "queries.npy"), np.load(folder / "exact_sorted.npy")
    for probes, refine in ((32, 100), (64, 100), (64, 200), (128, 200), (256, 300)):
        found, times = _timed(lambda q, p=probes, r=refine: opened.search(q, K, probes=p, refine=r)[0], queries)
        name = f"pathasst ({probes} of {opened.lists} clusters, {refine} refined)"
        report(name, found, times, exact, opens_s=round(opening, 2), rss_gb=round(memory() - before, 2))


def peer(folder: Path, factory: str, note: str) -> None:
    """A Faiss index in fp32 as it comes, built here from the same vectors."""
    import faiss

    codes = np.load(folder / "codes.npy", mmap_mode="r")
    queries, exact = np.load(folder / "queries.npy"), np.load(folder / "exact_sorted.npy")
    before, started = memory(), time.perf_counter()
    index = faiss.index_factory(codes.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
    if not index.is_trained:
        index.train(from_bytes(np.asarray(codes[:: max(1, len(codes) // 200_000)])))
    for start in range(0, len(codes), BLOCK):
        index.add(from_bytes(np.asarray(codes[start : start + BLOCK])))
    built = time.perf_counter() - started
    faiss.omp_set_num_threads(1)
    if factory.startswith("IVF"):
        index.nprobe = 64
    if factory.startswith("HNSW"):
        index.hnsw.efSearch = 128
    found, times = _timed(lambda q: index.search(q[None], K)[1][0], queries)
    report(f"{note} ({factory})", found, times, exact, build_s=round(built, 1), rss_gb=round(memory() - before, 2))


def _timed(search, queries: np.ndarray) -> tuple[list[np.ndarray], list[float]]:
    found, times = [], []
    for query in queries:
        started = time.perf_counter()
        found.append(search(query))
        times.append(time.perf_counter() - started)
    return found, times


def prepare(folder: Path, n: int, dim: int, lists: int) -> None:
    """Draw, build, and the exact answers."""
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    codes = draw(n, dim, SEED)
    queries = from_bytes(draw(QUERIES, dim, SEED + 1))
    drawn = time.perf_counter() - started
    started = time.perf_counter()
    build_clusters(codes, folder, ClusterSettings(lists=lists))
    built = time.perf_counter() - started
    del codes
    np.save(folder / "queries.npy", queries)
    np.save(folder / "exact_sorted.npy", truth(np.load(folder / "codes.npy", mmap_mode="r"), queries))
    sizes = {p.name: round(p.stat().st_size / 1e9, 3) for p in folder.iterdir() if p.name in ("codes.npy", "clusters.faiss")}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    row = {"system": "pathasst build", "draw_s": round(drawn, 1), "build_s": round(built, 1), "peak_rss_gb": round(peak, 2)}
    print(json.dumps({**row, "disk_gb": sizes}))


def computed(n: int, dim: int) -> None:
    """What the peers' vectors alone would take in memory."""
    sizes = {"flat, IVF flat": n * dim * 4, "HNSW32": n * (dim * 4 + 2 * 32 * 4 + 8), "pathasst": n * (dim / 8 + 16)}
    print("memory, computed:", "; ".join(f"{name} {size / 1e9:.2f} GB" for name, size in sizes.items()))


def main() -> None:
    """Run each system in its own process and print what it measured."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--n", type=int, default=50_000)
    options.add_argument("--dim", type=int, default=384, choices=(384, 768))
    options.add_argument("--lists", type=int, default=0, help="clusters; 0: 2·√n")
    options.add_argument("--out", type=Path, default=Path("out/papers-scale"))
    options.add_argument("--peers", type=float, default=8.0, help="largest fp32 collection, in GB, that peers are built from")
    options.add_argument("--step", default="", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    folder = chosen.out / f"{chosen.n}x{chosen.dim}"
    lists = round(2 * chosen.n**0.5)
    steps = {
        "prepare": lambda: prepare(folder, chosen.n, chosen.dim, chosen.lists),
        "ours": lambda: ours(folder),
        "flat": lambda: peer(folder, "Flat", "exact"),
        "ivf": lambda: peer(folder, f"IVF{lists},Flat", "the paper: clustering, uncompressed, 64 clusters"),
        "hnsw": lambda: peer(folder, "HNSW32,Flat", "graph, efSearch 128"),
    }
    if chosen.step:
        steps[chosen.step]()
        return
    print(f"{chosen.n:,} vectors × {chosen.dim}, {QUERIES} queries, one thread, seed {SEED}")
    computed(chosen.n, chosen.dim)
    fits = chosen.n * chosen.dim * 4 <= chosen.peers * 1e9
    for step in steps:
        if step in ("prepare", "ours") or fits:
            subprocess.run([sys.executable, __file__, *sys.argv[1:], "--step", step], check=True)


if __name__ == "__main__":
    main()
